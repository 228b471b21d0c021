"""Each rule of the format, broken alone and refused by name."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
from graphs import random_weight
from loader_files import CONV, INPUT, LIF, POOL, READOUT, refused, small
from mutate import assemble, body, repair_header, replace, sections, set_record, set_word

from bitspike import engine
from bitspike.deploy import artifact, ir
from bitspike.deploy.check import check
from bitspike.errors import LoweringError


@pytest.mark.parametrize(
    ("node", "word", "value", "message"),
    [
        (CONV, 0, 17, "operation is 17, accepted: 0 to 16"),
        (CONV, 0, 0, "node 0, and only it, is an Input"),
        (CONV, 1, 1, "source 1 is not an earlier node"),
        (CONV, 1, -1, "0 sources"),
        (CONV, 1, 2**31 - 1, "is not an earlier node"),
        (CONV, 2, 0, "2 sources, accepted: 1"),
        (INPUT, 2, 0, "without a first one"),
        (POOL, 1, INPUT, "of kind input"),
        (READOUT, 1, CONV, "of kind current"),
        (LIF, 1, INPUT, "of kind input"),
        (CONV, 3, 0, "channels is 0, accepted: 1 to 65535"),
        (CONV, 4, 65536, "height is 65536, accepted: 1 to 65535"),
        (CONV, 4, 5, "height is 5, expected 4"),
        (CONV, 5, 3, "width is 3, expected 4"),
        (LIF, 3, 4, "channels are 4, expected 3"),
        (LIF, 5, 5, "expected 4 x 4"),
        (READOUT, 4, 2, "expected 1 x 1"),
        (CONV, 6, 0, "kernel height is 0"),
        (CONV, 6, 6, "exceeds the padded source's 5"),
        (POOL, 6, 1, "is not square"),
        (CONV, 8, 0, "stride is 0"),
        (CONV, 9, 2, "padding 2 must be smaller than the kernel's height 2"),
        (CONV, 10, 0, "groups is 0"),
        (CONV, 10, 2, "groups 2 do not divide"),
        (CONV, 11, 9, "weight bits is 9, accepted: 1 to 8"),
        (LIF, 11, 17, "membrane bits is 17, accepted: 2 to 16"),
        (LIF, 11, 1, "membrane bits is 1, accepted: 2 to 16"),
        (LIF, 12, 16, "leak shift is 16, accepted: 0 to 15"),
        (LIF, 13, 2, "soft reset is 2, accepted: 0 or 1"),
        (INPUT, 12, 3, "frames are 3, accepted: 1 or 2"),
        (READOUT, 12, 2, "pool is 2, accepted: 0 to 1"),
        (INPUT, 6, 1, "kernel height is 1, but unused here"),
        (READOUT, 10, 1, "groups is 1, but unused here"),
        (POOL, 11, 1, "bits is 1, but unused here"),
        (CONV, 12, 1, "first option is 1, but unused here"),
        (CONV, 14, 1, "third source is 1, but unused here"),
        (INPUT, 15, 3, "width code is 3, accepted: 0, 1, 2 or 4"),
        (CONV, 15, 1, "width codes are 1 for 0 arrays"),
    ],
)
def test_record_rules(node: int, word: int, value: int, message: str) -> None:
    refused(set_record(small(), node, word, value), f"node {node}", message)


def attending() -> bytes:
    """Attention (node 6) of 4-channel queries (2) on 2x2 pixels with keys (3) and 6-channel values (5) on 1x1."""
    rng = np.random.default_rng(6)

    def lif(source: int, channels: int) -> ir.Lif:
        arrays = (np.ones((1, channels), np.int32), np.zeros(channels, np.int32), np.full(channels, 2, np.int32))
        return ir.Lif((source,), *arrays, np.zeros(channels, np.uint8), 8, 1)

    nodes = [ir.Input(1, 2, 2, 1, (0,)), ir.Conv(0, random_weight(rng, (4, 1, 1, 1), 3), 3), lif(1, 4)]
    nodes += [ir.OrPool(2, 2, 2), ir.Conv(3, random_weight(rng, (6, 4, 1, 1), 2), 2), lif(4, 6)]
    nodes += [ir.Attention(2, 3, 5, 2), lif(6, 6)]
    nodes.append(ir.Readout(7, random_weight(rng, (3, 24), 2), np.zeros(3, np.int32), 2))
    return artifact.encode(ir.Graph(2, nodes))


@pytest.mark.parametrize(
    ("word", "value", "message"),
    [
        (1, -1, "second source is 3 without a first one"),
        (2, -1, "third source is 5 without the one before it"),
        (1, 4, "reads node 4, an edge of kind current, not accepted here"),
        (2, 0, "reads node 0, an edge of kind input, not accepted here"),
        (14, 0, "reads node 0, an edge of kind input, not accepted here"),
        (14, 6, "source 6 is not an earlier node"),
        (14, -1, "2 sources, accepted: 3"),
        (2, 5, "query has 4 channels, key 6, accepted: equal numbers"),
        (14, 2, "key is 1 x 1, value 2 x 2, accepted: equal sizes"),
        (10, 0, "heads is 0, accepted: 1 to 65535"),
        (10, 3, "heads 3 do not divide 4 and 6 channels"),
        (10, 4, "heads 4 do not divide 4 and 6 channels"),
        (3, 4, "channels are 4, expected 6"),
        (4, 1, "output is 1 x 2, expected 2 x 2"),
        (6, 1, "kernel height is 1, but unused here"),
        (9, 1, "padding is 1, but unused here"),
        (11, 1, "bits is 1, but unused here"),
        (12, 1, "first option is 1, but unused here"),
        (13, 1, "second option is 1, but unused here"),
        (15, 1, "width codes are 1 for 0 arrays"),
    ],
)
def test_attention_record_rules(word: int, value: int, message: str) -> None:
    refused(set_record(attending(), 6, word, value), "node 6 (Attention): ", message)


def test_attention_bounds_are_proven() -> None:
    """One channel on 46341 x 46341 tokens is just beyond 2^31; a file of less than 1 kB can say so."""
    lif = ir.Lif((1,), np.ones((1, 1), np.int32), *(np.zeros(1, np.int32),) * 2, np.zeros(1, np.uint8), 4, 0)
    nodes = [ir.Input(1, 46341, 46341, 1, (0,)), ir.Conv(0, np.ones((1, 1, 1, 1), np.int8), 1), lif]
    nodes += [ir.OrPool(2, 1, 1), ir.Attention(3, 3, 3, 1), dataclasses.replace(lif, sources=(4,))]
    nodes.append(ir.Readout(5, np.zeros((1, 1), np.int8), np.zeros(1, np.int32), 2, True))
    graph = ir.Graph(1, nodes)
    with pytest.raises(LoweringError, match="beyond 32 bits"):
        check(graph)
    graph.nodes[0] = ir.Input(1, 46340, 46340, 1, (0,))
    data = artifact.encode(graph)
    for node in range(6):
        data = set_record(set_record(data, node, 4, 46341), node, 5, 46341)
    refused(data, "node 4 (Attention): the current of channel 0 reaches 0 to 2147488281")


def test_older_and_newer_minor_versions_are_read() -> None:
    for minor in range(5):
        engine.load(repair_header(small()[:6] + struct.pack("<H", minor) + small()[8:]))


def test_graph_header_rules() -> None:
    data = small()
    refused(set_word(data, 1, 0, 0), "time steps are 0, accepted: 1 to 1024")
    refused(set_word(data, 1, 0, 1025), "time steps are 1025")
    refused(set_word(data, 1, 1, 1), "number of nodes is 1, accepted: 2 to 4096")
    refused(set_word(data, 1, 1, 4097), "number of nodes is 4097")
    refused(set_word(data, 1, 1, 6), "GRAPH: 6 nodes need 384 bytes, the section has 320")


def test_container_rules() -> None:
    data = small()
    parts = sections(data)
    refused(b"", "header: magic needs 4 bytes")
    refused(b"NOPE" + data[4:], "not a .bspk file")
    refused(repair_header(data[:4] + b"\x02\x00" + data[6:]), "version 2 is not supported, accepted: 1")
    refused(repair_header(data[:16] + struct.pack("<I", 17) + data[20:]), "number of sections is 17, accepted: 3 to 16")
    refused(assemble([*parts, (77, 1, b"x")]), "section 77 is required but unknown")
    refused(assemble(parts[1:]), "GRAPH is missing")
    refused(assemble([parts[1], parts[0], *parts[2:]]), "types must increase")
    refused(assemble([parts[0], parts[0], *parts[1:]]), "types must increase")
    refused(assemble([(1, 0, parts[0][2]), *parts[1:]]), "GRAPH must be marked as required")
    refused(assemble([*parts[:3], (5, 1, b"{}")]), "META must not be marked as required")
    refused(assemble([(1, 3, parts[0][2]), *parts[1:]]), "flags of section 1 are 3")
    padded = next(i for i, p in enumerate(parts) if len(p[2]) % 8)
    offset, length = struct.unpack_from("<QQ", data, 24 + 32 * padded + 8)
    dirty = bytearray(data)
    dirty[offset + length] = 1
    refused(bytes(dirty), "padding between sections holds 1")
    shifted = bytearray(data)
    struct.pack_into("<Q", shifted, 24 + 8, 24 + 32 * len(parts) + 8)
    refused(repair_header(bytes(shifted)), "section 1 starts at")


def test_body_rules() -> None:
    data = small(test_vectors=2)
    refused(replace(data, 2, body(data, 2) + bytes(4)), "PARAMS: 4 bytes are left over")
    refused(replace(data, 3, body(data, 3)[:-4]), "WEIGHTS: weights needs")
    refused(replace(data, 4, body(data, 4)[:-4]), "CALIB: 16 bytes, expected 20")
    refused(replace(data, 6, body(data, 6)[:-4]), "TESTVEC: 2 samples of 36 bytes each")
    refused(set_word(data, 6, 0, 1), "TESTVEC: 36 bytes are left over")
    refused(set_word(data, 6, 0, 2**32 - 1), "TESTVEC: 4294967295 samples")
    sample = bytearray(body(data, 6))
    sample[4 + 18] = 1
    refused(replace(data, 6, bytes(sample)), "TESTVEC: padding holds 1")
    zero = bytearray(body(data, 2))
    assert zero[:4] == b"\x05\x09\0\0"
    refused(replace(data, 2, b"\xff" + bytes(zero[1:])), "node 0 (Input)", "zero point -1, accepted: 0 to 255")
    refused(replace(data, 2, bytes(zero[:2]) + b"\1" + bytes(zero[3:])), "PARAMS: padding holds 1")


def test_weight_rules() -> None:
    weight = np.array([1, 0, -1], np.int8).reshape(3, 1, 1, 1)
    lif = ir.Lif((1,), np.ones((1, 3), np.int32), *(np.zeros(3, np.int32),) * 2, np.zeros(3, np.uint8), 4, 0)
    nodes = [ir.Input(1, 1, 1, 1, (0,)), ir.Conv(0, weight, 3), lif]
    nodes.append(ir.Readout(2, np.zeros((1, 3), np.int8), np.zeros(1, np.int32), 2))
    data = artifact.encode(ir.Graph(1, nodes))
    stream = body(data, 3)
    assert stream[:4] == bytes([0b11000001, 0b1, 0, 0])
    refused(replace(data, 3, bytes([0b11000100]) + stream[1:]), "node 1 (Conv)", "3-bit weight -4, accepted: -3 to 3")
    refused(replace(data, 3, stream[:1] + bytes([0b11]) + stream[2:]), "node 1 (Conv)", "padding bits")
    refused(replace(data, 3, stream[:2] + b"\1" + stream[3:]), "WEIGHTS: padding holds 1")


def test_bounds_are_proven_again() -> None:
    data = small()
    params = body(data, 2)
    multiplier = 4  # after the padded zero points
    big = params[:multiplier] + struct.pack("<i", 2**31 - 1) + params[multiplier + 4 :]
    refused(replace(data, 2, big), "node 2 (Lif)", "a scaled source of channel 0 reaches", "2147483647")
    nodes = [ir.Input(1, 1, 1, 1, (0,)), ir.Conv(0, np.ones((1, 1, 1, 1), np.int8), 1)]
    arrays = (np.ones((1, 1), np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32))
    nodes += [
        ir.Lif((1,), *arrays, np.zeros(1, np.uint8), 4, 0),
        ir.Add(2, 2),
        ir.Add(3, 3),
        ir.Add(4, 4),
        ir.Add(5, 5),
    ]
    nodes += [ir.Add(6, 6), ir.Add(7, 7), ir.SumPool(8, 1, 1), ir.Add(9, 9)]
    nodes.append(ir.Readout(10, np.ones((1, 1), np.int8), np.zeros(1, np.int32), 1))
    data = artifact.encode(ir.Graph(1, nodes))
    refused(_as_add(data), "counts of channel 0 reach 256")
    logits = set_word(data, 2, len(body(data, 2)) // 4 - 1, 2**31 - 1)
    refused(logits, "(Readout)", "the logit of channel 0 reaches")


def test_unused_nodes_are_refused() -> None:
    nodes = [ir.Input(1, 1, 1, 1, (0,)), ir.Conv(0, np.ones((1, 1, 1, 1), np.int8), 1)]
    arrays = (np.ones((1, 1), np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint8))
    nodes += [
        ir.Lif((1,), *arrays, 4, 0),
        ir.OrPool(2, 1, 1),
        ir.Readout(3, np.ones((1, 1), np.int8), np.zeros(1, np.int32), 1),
    ]
    refused(set_record(artifact.encode(ir.Graph(1, nodes)), 4, 1, 2), "node 3 (OrPool): no later node reads it")


def _as_add(data: bytes) -> bytes:
    """Turns the SumPool (node 9) into an Add of node 8 with itself."""
    for word, value in ((0, 6), (2, 8), (6, 0), (7, 0), (8, 0)):
        data = set_record(data, 9, word, value)
    return data
