"""Operations of streams, sums and products of spikes, against loops over single spikes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from stream_graphs import GRAPHS, STEPS, samples

from bitspike.deploy import ir, reference
from bitspike.measure import LayerOperations, count_operations, estimate_energy


def counted(name: str, seed: int) -> tuple[ir.Graph, dict[int, NDArray[np.int64]], dict[int, LayerOperations]]:
    """A graph, all its edges, and the rows of its nodes."""
    graph = GRAPHS[name](seed)
    graph.names = [f"n{i}" for i in range(len(graph.nodes))]
    edges: list[NDArray[np.int64]] = []
    original = reference.run_stream_node
    kept: dict[int, NDArray[np.int64]] = {}

    def watch(node: ir.StreamNode, before: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        edges[:] = before
        kept.update(enumerate(before))
        kept[len(before)] = original(node, before)
        return kept[len(before)]

    reference.run_stream_node = watch
    try:
        spikes = reference.run(graph, samples(seed, 2)).spikes
    finally:
        reference.run_stream_node = original
    kept |= {i: s.astype(np.int64) for i, s in spikes.items()}
    rows = {int(row.name[1:]): row for row in count_operations(graph, spikes) if row.name[1:].isdigit()}
    return graph, kept, rows


def pairs(node: ir.MatMul, left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Pairs of ones that a product multiplies, one step, sample and head at a time."""
    total = 0
    for a, b in zip(left.reshape(-1, *left.shape[2:]), right.reshape(-1, *right.shape[2:]), strict=True):
        for h in range(node.heads):
            one, other = (x.reshape(node.heads, x.shape[0] // node.heads, -1)[h] for x in (a, b))
            one = one.T if node.transpose == "left" else one
            other = other.T if node.transpose == "right" else other
            total += int((one @ other).sum())
    return total


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", GRAPHS)
def test_equals_brute_force(name: str, seed: int) -> None:
    graph, edges, rows = counted(name, seed)
    shapes = ir.node_shapes(graph)
    for index, node in enumerate(graph.nodes):
        sites = int(np.prod(shapes[index]))
        match node:
            case ir.MatMul():
                row = rows[index]
                assert row.kind == "ac" and row.synaptic == pairs(node, edges[node.left], edges[node.right]) / 2
                most = pairs(node, np.ones_like(edges[node.left]), np.ones_like(edges[node.right])) / 2
                assert row.dense == most == row.single_pass * STEPS
            case ir.Reduce() if edges[node.source].max() > 1 or edges[node.source].min() < 0:
                assert index not in rows, "sums over the pixels of a stream are pooling"
            case ir.Reduce():
                row = rows[index]
                assert row.synaptic == edges[node.source].sum() / 2
                assert row.dense == row.reads == edges[node.source][:, 0].size
                assert row.rate == pytest.approx(edges[node.source].mean())
            case ir.Stream():
                row = rows[index]
                assert (row.kind, row.updates, row.bits) == ("stream", sites * STEPS, node.bits)
                assert row.fan_in == len(node.sources) and row.synaptic == 0
            case ir.Mix():
                assert rows[index].kind == "neuron" and rows[index].updates == sites * STEPS
                assert rows[index].rate == pytest.approx(edges[index].mean())
            case ir.Product():
                assert (rows[index].kind, rows[index].synaptic) == ("mac", sites * STEPS)
            case ir.Readout() if index - 1 in rows and rows[index - 1].kind == "stream":
                assert rows[index].kind == "mac" and rows[index].synaptic == rows[index].dense
            case ir.Gate() | ir.MaxPool() | ir.Concat():
                assert index not in rows


def test_masks_and_concatenated_spikes_are_followed() -> None:
    """Spikes behind a gate are fewer, and what reads them does less."""
    graph, edges, rows = counted("attention", 1)
    pool = graph.nodes[-2]
    assert isinstance(pool, ir.OrPool)
    spikes = reference._windows(edges[pool.source], pool.kernel, pool.stride, 0).max((-2, -1)).sum()
    assert rows[len(graph.nodes) - 1].synaptic == spikes * 5 / 2


def test_streams_cost_multiplications_where_bits_are_charged() -> None:
    def energy(fan_in: int, bits: int) -> list[float]:
        row = LayerOperations("s", "stream", 0, 0.0, 0, 1000, None, bits, fan_in, 0, 4, 0, 0)
        return [r.total_j for r in estimate_energy([row]) if r.network == "spiking"]

    assert energy(1, 16)[0] == 0, "the usual convention counts spikes and pixels alone"
    assert energy(2, 16)[1] == pytest.approx(1000 * 2 * (0.2 * 16 * 16 / 64 + 0.1) * 1e-12)
    assert energy(1, 8)[1] < energy(1, 16)[1] < energy(1, 16)[2] == energy(1, 16)[3]
