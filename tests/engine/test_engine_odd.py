"""Odd levels of weights in the file: how they are stored and marked, what is refused, and what stays as it was."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
from graphs import random_weight
from mutate import body, repair_header, set_record

from bitspike import engine
from bitspike.deploy import artifact, ir
from bitspike.deploy.check import check
from bitspike.errors import ArtifactError, LoweringError

BITS_WORD, LEVELS_WORD = 11, 13  # of a node's record
CONV, LINEAR, READOUT = 1, 3, 5


def network(bits: int, odd: bool, seed: int = 0) -> ir.Graph:
    rng = np.random.default_rng(seed)

    def lif(source: int, channels: int) -> ir.Lif:
        ones, zero = np.ones((1, channels), np.int32), np.zeros(channels, np.int32)
        return ir.Lif((source,), ones, zero, zero + 2**bits, zero.astype(np.uint8), 8, 1)

    def weight(*shape: int) -> ir.Weight:
        return random_weight(rng, shape, bits, odd=odd)

    nodes: list[ir.Node] = [ir.Input(2, 3, 3, 1, (5, 9)), ir.Conv(0, weight(3, 2, 2, 2), bits, odd=odd), lif(1, 3)]
    nodes += [ir.Linear(2, weight(5, 12), bits, odd), lif(3, 5)]
    nodes.append(ir.Readout(4, weight(4, 5), np.zeros(4, np.int32), bits, odd=odd))
    return ir.Graph(2, nodes)


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_are_the_stored_numbers_doubled_minus_the_largest(bits: int) -> None:
    """Every level, written and read back; decoded here from the bits of the file."""
    levels = 2 * np.arange(2**bits) - (2**bits - 1)
    nodes = network(bits, odd=True).nodes
    readout = ir.Readout(
        4, np.resize(levels, (4, 2**bits)).astype(ir.weight_type(bits, True)), np.zeros(4, np.int32), bits, odd=True
    )
    nodes[3] = ir.Linear(2, random_weight(np.random.default_rng(0), (2**bits, 12), bits, odd=True), bits, True)
    nodes[4] = dataclasses.replace(
        nodes[4],
        multiplier=np.ones((1, 2**bits), np.int32),
        **{name: np.zeros(2**bits, np.int32) for name in ("bias", "threshold")},
        membrane_shift=np.zeros(2**bits, np.uint8),
    )
    nodes[5] = readout
    data = artifact.encode(ir.Graph(2, nodes))
    stream = np.unpackbits(np.frombuffer(body(data, 3), np.uint8), bitorder="little")
    tail = stream[len(stream) - 4 * 2**bits * bits :].reshape(-1, bits)  # whole words: nothing is padded
    np.testing.assert_array_equal(2 * (tail @ (1 << np.arange(bits))) - (2**bits - 1), readout.weight.reshape(-1))
    loaded = engine.load(data).graph().nodes[READOUT]
    np.testing.assert_array_equal(loaded.weight, readout.weight)
    assert loaded.odd and loaded.weight.dtype == readout.weight.dtype


@pytest.mark.parametrize("node", [CONV, LINEAR, READOUT])
def test_the_record_says_which_levels(node: int) -> None:
    data = artifact.encode(network(4, odd=True))
    for value, text in ((2, "odd levels are 2, accepted: 0 or 1"), (2**31, "odd levels are 2147483648")):
        with pytest.raises(ArtifactError, match=text):
            engine.load(set_record(data, node, LEVELS_WORD, value))
    signs = artifact.encode(network(1, odd=False))
    with pytest.raises(ArtifactError, match="weight bits is 1, accepted: 2 to 8"):
        engine.load(set_record(signs, node, LEVELS_WORD, 1))


def test_other_nodes_have_no_levels() -> None:
    data = artifact.encode(network(4, odd=True))
    with pytest.raises(ArtifactError, match=r"node 0 \(Input\): second option is 1, but unused here"):
        engine.load(set_record(data, 0, LEVELS_WORD, 1))


def test_the_version_rises_only_where_levels_are_odd() -> None:
    versions = {odd: struct.unpack_from("<HH", artifact.encode(network(4, odd)), 4) for odd in (False, True)}
    assert versions == {False: (1, 1), True: (1, 2)}
    for minor in (0, 1, 2, 9):
        data = artifact.encode(network(4, odd=True))
        assert engine.load(repair_header(data[:6] + struct.pack("<H", minor) + data[8:])).graph().nodes[CONV].odd


def test_files_without_odd_levels_keep_their_bytes() -> None:
    """Checksums of what version 1.1 of the format made of these graphs."""
    found = {bits: artifact.crc32c(artifact.encode(network(bits, odd=False))) for bits in (1, 3, 8)}
    assert found == {1: 0x86DC1D1C, 3: 0x79B7FDE9, 8: 0xB46B59B0}


@pytest.mark.parametrize(
    ("bits", "value", "text"),
    [
        (4, 17, "4-bit odd weights must lie within ±15"),
        (4, -2, "4-bit odd weights must be odd, found .-2."),
        (8, 257, "8-bit odd weights must lie within ±255"),
    ],
)
def test_values_off_the_levels_are_refused(bits: int, value: int, text: str) -> None:
    graph = network(bits, odd=True)
    for index in (CONV, LINEAR, READOUT):
        node = graph.nodes[index]
        weight = node.weight.copy()
        weight.flat[0] = value
        wrong = ir.Graph(2, [dataclasses.replace(n, weight=weight) if n is node else n for n in graph.nodes])
        with pytest.raises(LoweringError, match=text):
            check(wrong)


def test_signs_are_not_marked() -> None:
    graph = network(1, odd=False)
    graph.nodes[CONV] = dataclasses.replace(graph.nodes[CONV], odd=True)
    with pytest.raises(LoweringError, match="1-bit weights are marked as odd, accepted: odd=False"):
        check(graph)
