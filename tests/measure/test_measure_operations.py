from __future__ import annotations

import numpy as np
import pytest
from measure_graphs import attention_graph, random_graph, random_samples
from numpy.typing import NDArray

from bitspike.deploy import ir, reference
from bitspike.measure import count_operations, operations_of, spike_totals
from bitspike.measure.operations import fan_out


def brute_force(graph: ir.Graph, index: int, edge: NDArray[np.int64]) -> float:
    """Synaptic operations per sample of node ``index`` with one loop per weight; edge (T, N, C, H, W)."""
    node = graph.nodes[index]
    total = 0
    if isinstance(node, ir.Conv):
        _, _, channels, height, width = edge.shape
        outputs, per_group, kernel_height, kernel_width = node.weight.shape
        _, out_height, out_width = ir.node_shapes(graph)[index]
        for m in range(outputs):
            first = m // (outputs // node.groups) * per_group
            for c in range(first, first + per_group):
                for i in range(out_height * node.stride)[:: node.stride]:
                    for j in range(out_width * node.stride)[:: node.stride]:
                        for a in range(kernel_height):
                            for b in range(kernel_width):
                                y, x = i + a - node.padding, j + b - node.padding
                                if 0 <= y < height and 0 <= x < width:
                                    total += int(edge[:, :, c, y, x].sum())
        assert channels == per_group * node.groups
    else:
        total = int(edge.sum()) * node.weight.shape[0]
    return total / edge.shape[1]


def all_edges(graph: ir.Graph, spikes: dict[int, NDArray[np.uint8]]) -> dict[int, NDArray[np.int64]]:
    edges: dict[int, NDArray[np.int64]] = {i: s.astype(np.int64) for i, s in spikes.items()}
    for i, node in enumerate(graph.nodes):
        if isinstance(node, ir.Add):
            edges[i] = edges[node.left] + edges[node.right]
        elif isinstance(node, ir.SumPool | ir.OrPool):
            padding = node.padding if isinstance(node, ir.OrPool) else 0
            windows = reference._windows(edges[node.source], node.kernel, node.stride, padding)
            edges[i] = windows.sum((-2, -1)) if isinstance(node, ir.SumPool) else windows.max((-2, -1))
    return edges


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_brute_force(seed: int, frames: int) -> None:
    graph = random_graph(seed, frames=frames)
    samples = random_samples(graph, 3, seed)
    spikes = reference.run(graph, samples).spikes
    rows = {row.name: row for row in count_operations(graph, spikes)}
    edges = all_edges(graph, spikes)
    shapes = ir.node_shapes(graph)
    edges[0] = np.ones((frames, 3, *shapes[0]), np.int64)  # every pixel counts, once per frame
    for index, node in enumerate(graph.nodes):
        if isinstance(node, ir.Conv | ir.Linear | ir.Readout):
            row = rows[graph.names[index]]
            assert row.synaptic == pytest.approx(brute_force(graph, index, edges[node.source])), row.name
            assert row.kind == ("mac" if node.source == 0 else "ac")
            steps = frames if node.source == 0 else graph.time_steps
            outputs = int(np.prod(shapes[index][1:])) if isinstance(node, ir.Conv) else 1
            assert row.dense == node.weight.size * outputs * steps
            assert row.single_pass == node.weight.size * outputs
        if isinstance(node, ir.Lif):
            row = rows[graph.names[index]]
            assert row.updates == graph.time_steps * np.prod(shapes[index])
            assert row.rate == pytest.approx(spikes[index].mean())


def test_a_shortcut_adds_each_spike_once() -> None:
    graph = random_graph(0)
    spikes = reference.run(graph, random_samples(graph, 2)).spikes
    shortcuts = [row for row in count_operations(graph, spikes) if row.kind == "shortcut"]
    assert [row.name for row in shortcuts] == ["n6 shortcut", "n15 shortcut"]
    assert shortcuts[0].synaptic == spikes[4].sum() / 2
    assert shortcuts[0].dense == spikes[4][:, 0].size


def test_attention_counts_coincidences_and_adds_rows() -> None:
    graph = attention_graph(0, frames=3)
    samples = random_samples(graph, 2)
    spikes = reference.run(graph, samples).spikes
    query, value = spikes[2], spikes[5]
    key = all_edges(graph, spikes)[3]
    additions = 0
    for t, n, h in np.ndindex(3, 2, 2):
        heads = slice(3 * h, 3 * h + 3), slice(2 * h, 2 * h + 2)
        for y, x in np.ndindex(3, 2):
            additions += int(key[t, n, heads[0], y, x].sum()) * int(value[t, n, heads[1], y, x].sum())
        additions += int(query[t, n, heads[0]].sum()) * 2
    row = {row.name: row for row in count_operations(graph, spikes)}["n8"]
    assert additions > 0 and row.kind == "ac" and row.synaptic == pytest.approx(additions / 2)
    assert row.dense == 3 * row.single_pass == 3 * 2 * 3 * 2 * (6 + 30)
    assert row.reads == 3 * (6 * 30 + 6 * 6 + 4 * 6)
    assert row.rate == pytest.approx((query.sum() + key.sum() + value.sum()) / (2 * row.reads))
    halves = [spike_totals(graph, {i: s[:, part] for i, s in spikes.items()}) for part in (slice(0, 1), slice(1, 2))]
    for together, apart in zip(count_operations(graph, spikes), operations_of(graph, halves), strict=True):
        assert together.as_dict() == pytest.approx(apart.as_dict())


def test_full_attention_makes_every_dense_addition() -> None:
    graph = attention_graph(0)
    spikes = {i: np.ones((3, 1, *ir.node_shapes(graph)[i]), np.uint8) for i in (2, 5, 7, 9)}
    row = {row.name: row for row in count_operations(graph, spikes)}["n8"]
    assert row.synaptic == row.dense and row.rate == 1


def test_batches_add_up() -> None:
    graph = random_graph(2)
    spikes = reference.run(graph, random_samples(graph, 5)).spikes
    parts = [spike_totals(graph, {i: s[:, part] for i, s in spikes.items()}) for part in (slice(0, 2), slice(2, 5))]
    for together, apart in zip(count_operations(graph, spikes), operations_of(graph, parts), strict=True):
        assert together.as_dict() == pytest.approx(apart.as_dict())


def test_fan_out_of_a_strided_kernel() -> None:
    node = ir.Conv(0, np.ones((4, 1, 3, 3), np.int8), 4, stride=2, padding=1, groups=2)
    assert fan_out(node, (2, 5, 4)).tolist() == [
        [2, 4, 2, 2],
        [4, 8, 4, 4],
        [2, 4, 2, 2],
        [4, 8, 4, 4],
        [2, 4, 2, 2],
    ]


def test_a_missing_layer_is_named() -> None:
    graph = random_graph(0)
    with pytest.raises(ValueError, match="n2, n4"):
        count_operations(graph, {})
