"""Streams, products of spike matrices, masks and mixing neurons: loaded as written, refused where a rule is broken, exact."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from graph_equality import assert_same_nodes
from graphs import random_weight
from loader_files import refused
from mutate import set_record
from stream_nodes import STEPS, everything, finish, frames, front, lif, stream
from test_engine_exact import assert_exact
from tests.engine import fuzz_graphs

from bitspike import engine
from bitspike.deploy import artifact, ir
from bitspike.deploy.check import check
from bitspike.errors import LoweringError

# --- loading ---------------------------------------------------------------------------------------------------------


def test_random_networks_come_back_field_by_field() -> None:
    for seed in range(80):
        case = fuzz_graphs.make_case(seed)
        loaded = engine.load(case.data).graph()
        assert_same_nodes(loaded, case.graph)


CONCAT, STREAM, POOL, REDUCE, GATE, LEFT, NONE, MIX, PRODUCT, RIGHT = 6, 4, 5, 8, 10, 11, 13, 14, 16, 19


@pytest.mark.parametrize(
    ("node", "word", "value", "message"),
    [
        (STREAM, 1, -1, "second source is 1 without a first one"),
        (STREAM, 13, 4, "source 4 is not an earlier node"),
        (STREAM, 2, 0, "channels are 4, expected 2"),
        (STREAM, 11, 25, "stream bits is 25, accepted: 2 to 24"),
        (STREAM, 11, 1, "stream bits is 1, accepted: 2 to 24"),
        (STREAM, 12, 2, "steps with multipliers are 2, accepted: 1 or 3"),
        (STREAM, 10, 1, "groups is 1, but unused here"),
        (STREAM, 4, 1, "output is 1 x 3, expected 3 x 3"),
        (POOL, 1, 2, "reads node 2, an edge of kind spikes, not accepted here"),
        (POOL, 6, 1, "is not square"),
        (POOL, 9, 2, "padding 2 must be smaller than the kernel's height 2"),
        (CONCAT, 14, 4, "output is 2 x 2, expected 3 x 3"),
        (CONCAT, 14, 2, "joins stream and spikes, accepted: one kind"),
        (CONCAT, 3, 13, "channels are 13, expected 12"),
        (CONCAT, 2, -1, "third source is 5 without the one before it"),
        (CONCAT, 1, 1, "of kind current"),
        (REDUCE, 12, 0, "axis is 0, accepted: 1 to 3"),
        (REDUCE, 12, 4, "axis is 4, accepted: 1 to 3"),
        (REDUCE, 12, 2, "heads are 2 of sums over tokens, accepted: 1"),
        (REDUCE, 10, 3, "heads 3 do not divide 4 and 4 channels"),
        (REDUCE, 1, 4, "sums over channels read a stream, accepted: spikes"),
        (REDUCE, 3, 4, "channels are 4, expected 2"),
        (GATE, 2, 3, "reads node 3, an edge of kind stream"),
        (GATE, 1, 9, "channels are 4, expected 2"),
        (GATE, 10, 2, "groups is 2, but unused here"),
        (LEFT, 12, 3, "transposed operand is 3, accepted: 0 to 2"),
        (LEFT, 12, 0, "sums over 9 of the left and 2 of the right operand, accepted: equal numbers"),
        (LEFT, 10, 3, "heads 3 do not divide 4 and 4 channels"),
        (LEFT, 10, 1, "channels are 18, expected 9"),
        (LEFT, 1, 8, "of kind current"),
        (NONE, 12, 1, "sums over 2 of the left and 9 of the right operand"),
        (RIGHT, 4, 3, "output is 3 x 1, expected 6 x 1"),
        (MIX, 1, 0, "of kind input"),
        (MIX, 11, 1, "bits is 1, but unused here"),
        (PRODUCT, 2, 8, "second source is 3 x 3, accepted: 1 x 1"),
        (PRODUCT, 1, 4, "of kind stream"),
        (PRODUCT, 13, 1, "second option is 1, but unused here"),
    ],
)
def test_record_rules(node: int, word: int, value: int, message: str) -> None:
    refused(set_record(artifact.encode(everything()), node, word, value), f"node {node} ", message)


def test_masks_and_products_need_channels_that_fit() -> None:
    rng = np.random.default_rng(0)
    weight = random_weight(rng, (4, 6, 1, 1), 1)
    nodes = [*front(rng, 6, 2, 2), ir.Reduce(2, 3, "channels"), lif(3, 3), ir.Conv(2, weight, 1), lif(5, 4)]
    data = artifact.encode(finish([*nodes, ir.Gate(2, 4)], rng))
    refused(set_record(data, 7, 2, 6), "node 7 (Gate)", "4 channels of the second source for 6 of the first")
    other = [*front(rng, 6, 2, 2), ir.Reduce(2, 2, "channels"), ir.Reduce(2, 3, "both"), ir.Reduce(2, 2, "both")]
    data = artifact.encode(finish([*other, ir.Product(3, 5)], rng))
    refused(set_record(data, 6, 2, 4), "node 6 (Product)", "3 channels of the second source for 2 of the first")


def rebuilt(graph: ir.Graph, index: int, **changes: Any) -> bytes:
    """The artifact with other fields of a node, whatever the checker says."""
    nodes = list(graph.nodes)
    nodes[index] = dataclasses.replace(nodes[index], **changes)  # type: ignore[type-var]
    changed = ir.Graph(graph.time_steps, nodes)
    with pytest.raises(LoweringError):
        check(changed)
    return _unchecked(changed)


def _unchecked(graph: ir.Graph) -> bytes:
    check_before = artifact.check
    artifact.check = lambda graph: []  # type: ignore[assignment]
    try:
        return artifact.encode(graph)
    finally:
        artifact.check = check_before


def test_parameters_are_checked() -> None:
    graph = everything()
    refused(rebuilt(graph, STREAM, shift=np.full(4, 31, np.uint8)), "node 4 (Stream)", "shift 31, accepted: 0 to 30")
    later = np.ones((STEPS, STEPS), np.int32)
    refused(rebuilt(graph, MIX, weight=later), "node 14 (Mix)", "weight of step 1 in row 0 is 1, accepted: 0")


@pytest.mark.parametrize(
    ("node", "field", "value", "message"),
    [
        (STREAM, "multiplier", -(2**31), "a scaled source of channel 0 reaches"),
        (STREAM, "bias", 2**31 - 1, "the stream before its shift"),
        (MIX, "weight", 2**28, "a weighted step of channel 0 reaches"),
    ],
)
def test_bounds_are_proven(node: int, field: str, value: int, message: str) -> None:
    graph = everything()
    array = getattr(graph.nodes[node], field)
    filled = (
        np.tril(np.full(array.shape, value, np.int64)) if field == "weight" else np.full(array.shape, value, np.int64)
    )
    refused(rebuilt(graph, node, **{field: filled.astype(np.int32)}), f"node {node} ", message)


def test_bounds_of_sums_are_proven() -> None:
    """A stream of 24 bits summed over windows, its readout, and a product of sums, just beyond 32 bits."""
    rng = np.random.default_rng(0)
    big = stream(1, channels=4, bits=24, scale=2**20, shift=0)
    nodes = [*front(rng, 4, 20, 20), big, ir.SumPool(3, 20, 1), lif(4, 4), lif(2, 4)]
    refused(_unchecked(finish([*nodes], rng)), "node 4 (SumPool)", "the sum of channel 0 reaches")
    readout = ir.Readout(5, random_weight(rng, (2, 4), 8), np.zeros(2, np.int32), 8, True)
    nodes = [*front(rng, 4, 20, 20), big, lif(2, 4), stream(3, 4, channels=4, bits=24), readout]
    refused(_unchecked(ir.Graph(STEPS, nodes)), "node 6 (Readout)", "reaches")


# --- exact at every level ------------------------------------------------------------------------------------------------


def test_every_node() -> None:
    rng = np.random.default_rng(1)
    assert_exact(everything(), frames(rng, everything(), 3))


@pytest.mark.parametrize("rows", [1, 7, 8, 15, 16, 17, 31, 33, 48])
@pytest.mark.parametrize("heads", [1, 3])
def test_products_of_matrices_around_block_and_word_sizes(rows: int, heads: int) -> None:
    rng = np.random.default_rng(rows)
    channels = rows * heads
    height, width = (5, 7) if rows % 2 else (4, 8)
    nodes = front(rng, channels, height, width)
    nodes += [ir.Conv(2, random_weight(rng, (channels, channels, 1, 1), 1), 1), lif(3, channels, 1)]
    nodes += [ir.MatMul(2, 4, heads, "left"), lif(5, heads * height * width, max(1, rows // 4))]
    nodes += [ir.MatMul(4, 6, heads, "none"), lif(7, channels, 9)]
    nodes += [ir.MatMul(2, 4, heads, "right"), lif(9, channels, 3), ir.MatMul(10, 8, heads)]
    nodes += [stream(11, 7, channels=channels), lif((12, 11), channels)]
    graph = finish(nodes, rng)
    assert_exact(graph, frames(rng, graph))


def test_long_products() -> None:
    """More than 31 words of tokens: AVX2 counts bits in bytes that must be emptied in time."""
    rng = np.random.default_rng(2)
    nodes = [*front(rng, 4, 36, 31), ir.MatMul(2, 2, 2, "right"), lif(3, 4, 200), ir.MatMul(4, 2, 2)]
    graph = finish(nodes, rng)
    assert_exact(graph, frames(rng, graph))


@pytest.mark.parametrize("channels", [1, 5, 8, 13, 16, 40, 65])
def test_joined_and_masked_channels_at_odd_places(channels: int) -> None:
    rng = np.random.default_rng(channels)
    nodes = front(rng, channels, 3, 2)
    nodes += [ir.Conv(2, random_weight(rng, (3, channels, 1, 1), 1), 1), lif(3, 3, 0), ir.Concat((2, 4, 2, 4))]
    nodes += [ir.Concat((5, 4, 5)), ir.Conv(6, random_weight(rng, (7, 4 * channels + 15, 1, 1), 2), 2), lif(7, 7, 1)]
    heads = next(h for h in (5, 3, 2, 1) if channels % h == 0)
    nodes += [
        ir.Reduce(2, heads, "channels"),
        lif(9, heads, 1),
        ir.Gate(2, 10),
        stream(1, channels=channels),
        lif(12, channels, 60),
    ]
    nodes += [ir.Concat((12, 12)), ir.Reduce(14, 1, "tokens"), lif(15, 2 * channels, 20)]
    nodes += [ir.Reduce(2, 1, "tokens"), lif(17, channels, 3), ir.Gate(13, 18)]
    graph = finish(nodes, rng)
    assert_exact(graph, frames(rng, graph))


@pytest.mark.parametrize("bits", [2, 9, 24])
def test_streams_round_and_clip(bits: int) -> None:
    rng = np.random.default_rng(bits)
    nodes = front(rng, 19, 3, 5)
    shape = (3, STEPS, 19)
    node = ir.Stream(
        (1, 2, 1),
        rng.integers(-(2**15), 2**15, shape).astype(np.int32),
        rng.integers(-(2**20), 2**20, 19).astype(np.int32),
        rng.integers(0, 25, 19).astype(np.uint8),
        bits,
    )
    nodes += [node, ir.MaxPool(3, 3, 2, 2), lif(4, 19, 3), ir.SumPool(3, 3, 1), lif(6, 19, 5)]
    graph = finish(nodes, rng)
    assert_exact(graph, frames(rng, graph))
