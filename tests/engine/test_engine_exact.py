"""At every kernel level the engine equals the numpy reference on every spike and logit."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from graphs import random_graph, random_samples, random_weight

from bitspike import engine
from bitspike.deploy import artifact, ir, reference
from bitspike.deploy.check import check
from bitspike.errors import LoweringError

GRAPHS_PER_CASE = 40


def assert_exact(graph: ir.Graph, samples: np.ndarray, what: str = "") -> None:
    expected = reference.run(graph, samples)
    data = artifact.encode(graph)
    for level in engine.levels():
        net = engine.load(data, level=level)
        where = f"{what} level {level}"
        assert net.level == level
        np.testing.assert_array_equal(net.run(samples), expected.logits, where)
        np.testing.assert_array_equal(net.run_steps(samples), expected.steps, where)
        np.testing.assert_array_equal(net.run(samples, threads=2), expected.logits, f"{where} two threads")
        for family in engine.kernel_families():
            net = engine.load(data, level=level, kernels=family)
            one = net.run(samples[:1], threads=2)  # a single sample is divided among the threads
            np.testing.assert_array_equal(one, expected.logits[:1], f"{where} {family}")
            spikes = net.trace(samples)
            assert len(spikes) == len(expected.spikes)
            for index, s in expected.spikes.items():
                np.testing.assert_array_equal(spikes[net.names[index]], s, f"{where} {family} node {index}")


@pytest.mark.parametrize("start", range(0, 400, GRAPHS_PER_CASE))
@pytest.mark.parametrize("extreme", [False, True], ids=["random", "extreme"])
def test_random_graphs(start: int, extreme: bool) -> None:
    for seed in range(start, start + GRAPHS_PER_CASE):
        rng = np.random.default_rng([seed, extreme])
        graph = random_graph(rng, extreme=extreme)
        assert_exact(graph, random_samples(rng, graph, 2), f"seed {seed}")


def test_random_graphs_cover_every_node_and_option() -> None:
    nodes = [n for seed in range(200) for n in random_graph(np.random.default_rng([seed, 0])).nodes]
    assert {type(n) for n in nodes} == set(artifact.OPERATIONS) - set(get_args(ir.StreamNode))
    convs = [n for n in nodes if isinstance(n, ir.Conv)]
    lifs = [n for n in nodes if isinstance(n, ir.Lif)]
    precisions = {(bits, odd) for bits in range(1, 9) for odd in (False, True)} - {(1, True)}
    assert {(n.bits, n.odd) for n in convs} == precisions
    assert {(n.bits, n.odd) for n in nodes if isinstance(n, ir.Linear)} == precisions
    assert {n.odd for n in nodes if isinstance(n, ir.Readout) and n.bits == 8} == {False, True}
    assert {n.membrane_bits for n in lifs} == set(range(2, 17))
    assert {n.soft_reset for n in lifs} == {False, True}
    assert {len(n.sources) for n in lifs} == {1, 2}
    assert any(1 < n.groups < n.weight.shape[0] for n in convs)
    assert any(n.groups == n.weight.shape[0] > 1 and n.weight.shape[1] == 1 for n in convs)


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 15, 16, 17, 31, 33, 130])
@pytest.mark.parametrize(
    ("bits", "odd"), [(1, False), (2, False), (4, False), (8, False), *((b, True) for b in (2, 5, 7, 8))]
)
def test_channel_counts_around_block_and_byte_sizes(channels: int, bits: int, odd: bool) -> None:
    rng = np.random.default_rng(channels)
    graph = _two_convs(rng, channels, bits, kernel=3, time_steps=3, odd=odd)
    assert_exact(graph, rng.integers(0, 256, (2, 2, 4, 5), np.uint8))


@pytest.mark.parametrize("time_steps", [1, 2, 3, 4, 5, 8, 9, 33])
def test_time_steps_around_row_tiles(time_steps: int) -> None:
    rng = np.random.default_rng(time_steps)
    graph = _two_convs(rng, 16, 1, kernel=3, time_steps=time_steps)
    assert_exact(graph, rng.integers(0, 256, (2, 2, 4, 5), np.uint8))


def test_long_dot_products() -> None:
    """More than 31 words per row: AVX2 counts bits in bytes that must be emptied in time."""
    rng = np.random.default_rng(0)
    nodes: list[ir.Node] = [ir.Input(3, 8, 8, 1, (0, 0, 0))]
    weight = rng.choice(np.array([-127, 127], np.int8), (96, 3, 1, 1))
    nodes += [ir.Conv(0, weight, 8), _lif(rng, 1, 96, scale=300)]
    nodes += [ir.Linear(2, np.ones((20, 96 * 64), np.int8), 1), _lif(rng, 3, 20, scale=3000)]
    nodes += [ir.Linear(2, np.full((20, 96 * 64), -127, np.int8), 8), _lif(rng, 5, 20, scale=3000)]
    nodes += [ir.Linear(2, random_weight(rng, (20, 96 * 64), 8, extreme=True, odd=True), 8, True)]
    nodes += [_lif(rng, 7, 20, scale=3000), ir.Add(4, 6), ir.Add(8, 9)]
    nodes.append(ir.Readout(10, random_weight(rng, (5, 20), 3), np.zeros(5, np.int32), 3))
    samples = rng.integers(0, 256, (2, 3, 8, 8), np.uint8)
    samples[1] = 255
    assert_exact(ir.Graph(3, nodes), samples)


def test_potentials_at_the_edge_of_32_bits() -> None:
    """Bias and threshold so large that intermediate sums wrap, while every proven bound holds."""
    top = 2**31 - 1
    nodes: list[ir.Node] = [ir.Input(1, 2, 2, 1, (128,)), ir.Conv(0, np.array([1, -1], np.int8).reshape(2, 1, 1, 1), 1)]
    span = 128 * 2**20 + 2**20
    for soft in (False, True):
        room = top - span - 1000
        bias = np.array([room, -room], np.int32) if not soft else np.array([1000, -1000], np.int32)
        threshold = np.array([top, -top], np.int32) if not soft else np.array([room // 2, -(room // 2)], np.int32)
        multiplier = np.full((1, 2), 2**20, np.int32)
        nodes.append(ir.Lif((1,), multiplier, bias, threshold, np.array([0, 1], np.uint8), 8, 1, soft))
    nodes += [ir.Add(2, 3), ir.Readout(4, np.ones((2, 2), np.int8), np.zeros(2, np.int32), 1, True)]
    samples = np.array([[[[0, 255], [128, 1]]], [[[77, 200], [127, 129]]]], np.uint8)
    assert_exact(ir.Graph(4, nodes), samples)


def test_soft_reset_and_rounding_beyond_32_bits_is_refused() -> None:
    """At step 1 u - threshold would be 2^31 - 1, and adding half a unit to round would wrap."""
    multiplier, bias, carry = 2**23, 20_000_000, 7 << 24
    threshold = np.array([127 * multiplier + bias + carry - (2**31 - 1)], np.int32)
    lif = ir.Lif(
        (1,),
        np.array([[multiplier]], np.int32),
        np.array([bias], np.int32),
        threshold,
        np.array([24], np.uint8),
        4,
        0,
        True,
    )
    nodes: list[ir.Node] = [ir.Input(1, 1, 1, 3, (128,)), ir.Conv(0, np.ones((1, 1, 1, 1), np.int8), 1), lif]
    nodes.append(ir.Readout(2, np.ones((1, 1), np.int8), np.zeros(1, np.int32), 1))
    with pytest.raises(LoweringError, match="beyond 32 bits"):
        check(ir.Graph(3, nodes))


def test_pool_windows_larger_than_the_image() -> None:
    rng = np.random.default_rng(3)
    nodes: list[ir.Node] = [ir.Input(2, 2, 3, 1, (0, 0)), ir.Conv(0, random_weight(rng, (9, 2, 1, 1), 4), 4)]
    nodes += [_lif(rng, 1, 9, scale=400), ir.OrPool(2, 5, 2, 4)]
    nodes.append(ir.Readout(3, random_weight(rng, (3, 9), 2), np.zeros(3, np.int32), 2, True))
    assert_exact(ir.Graph(2, nodes), rng.integers(0, 256, (3, 2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("heads", "channels", "values", "side"),
    [
        (1, 64, 64, 8),
        (3, 13, 5, 6),  # heads that begin inside a byte
        (2, 33, 70, 5),
        (5, 8, 16, 2),  # few tokens: scores first
        (1, 65, 33, 1),
        (1, 70, 20, 31),  # counts beyond 16 bits
    ],
    ids=str,
)
def test_attention(heads: int, channels: int, values: int, side: int) -> None:
    rng = np.random.default_rng([heads, channels])
    width = heads * channels
    nodes: list[ir.Node] = [ir.Input(2, side, side, 1, (100, 120))]
    for outputs in (width, width, heads * values):  # nodes 2, 4, 6: query, key, value
        nodes.append(ir.Conv(0, random_weight(rng, (outputs, 2, 1, 1), 4), 4))
        nodes.append(_always(len(nodes) - 1, outputs) if side == 31 else _lif(rng, len(nodes) - 1, outputs, scale=600))
    nodes.append(ir.Attention(2, 4, 6, heads))
    most = channels * side**2
    current = (np.ones((1, heads * values), np.int32), np.zeros(heads * values, np.int32))
    threshold = rng.integers(0, max(2, most // (1 if side == 31 else 4)), heads * values).astype(np.int32)
    nodes.append(ir.Lif((7,), *current, threshold, np.full(heads * values, 6, np.uint8), 14, 2))
    nodes.append(ir.Readout(8, random_weight(rng, (3, heads * values), 3), np.zeros(3, np.int32), 3, True))
    assert_exact(ir.Graph(2, nodes), rng.integers(0, 256, (2, 2, side, side), np.uint8))


def _two_convs(
    rng: np.random.Generator, channels: int, bits: int, *, kernel: int, time_steps: int, odd: bool = False
) -> ir.Graph:
    nodes: list[ir.Node] = [ir.Input(2, 4, 5, 1, (3, 200))]
    weight = random_weight(rng, (channels, 2, 3, 3), 8, odd=odd)
    nodes += [ir.Conv(0, weight, 8, 1, 1, odd=odd), _lif(rng, 1, channels, scale=4000)]
    weight = random_weight(rng, (channels, channels, kernel, kernel), bits, odd=odd)
    nodes += [ir.Conv(2, weight, bits, 1, 1, odd=odd), _lif(rng, 3, channels, scale=8 * 2**bits)]
    weight = random_weight(rng, (10, channels * 20), bits, odd=odd)
    nodes.append(ir.Readout(4, weight, rng.integers(-9, 9, 10).astype(np.int32), bits, odd=odd))
    return ir.Graph(time_steps, nodes)


def _lif(rng: np.random.Generator, source: int, channels: int, *, scale: int) -> ir.Lif:
    bias, threshold = (rng.integers(-scale // 4, scale, channels).astype(np.int32) for _ in range(2))
    shift = rng.integers(0, 4, channels).astype(np.uint8)
    return ir.Lif((source,), np.ones((1, channels), np.int32), bias, threshold, shift, 12, 2, bool(rng.random() < 0.5))


def _always(source: int, channels: int) -> ir.Lif:
    """Neurons that fire at every step."""
    zero = np.zeros(channels, np.int32)
    return ir.Lif((source,), np.zeros((1, channels), np.int32), zero, zero, np.zeros(channels, np.uint8), 2, 0)
