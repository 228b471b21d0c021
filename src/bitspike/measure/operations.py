"""Operations of a network, counted from the spikes that real inputs cause.

Per layer that holds weights: ``dense`` operations (every input site times every weight it could meet, padding
included, over all T steps), and ``synaptic`` operations: each spike times the number of weights it really meets, exact
at borders, strides and groups. An edge that carries counts (sums of spikes) carries as many spikes as it counts.

A layer that reads the u8 input multiplies ("mac"); with a static sample it runs once, not T times, and every pixel
counts, zero or not. A layer that reads spikes accumulates ("ac"). A pooled readout is counted as one whose weights
every pixel shares: each spike meets ``classes`` weights. Sums of spikes in pools are not counted.

A product of two matrices of spikes adds one for each pair of spikes that meet, a sum of spikes one for each spike. A
stream multiplies and adds once for each of its sources. Masks, and pools of streams, are not counted.

An attention first counts, per head and step, the coincidences of key and value spikes, and then adds one row of these
counts for each query spike: both are its operations. The counts stand where a layer's weights do, anew at each step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..deploy import ir
from .operation_rows import LayerOperations
from .stream_operations import matched_pairs, stream_edge, stream_rows

__all__ = ["LayerOperations", "SpikeTotals", "count_operations", "operations_of", "spike_totals"]

Spikes = NDArray[Any]


@dataclass(frozen=True)
class SpikeTotals:
    """Per spike or count edge: spikes (C, H, W) summed over T and ``samples`` samples.

    ``coincidences``: per Attention node, pairs of a key and a value spike in one head, token and step, summed likewise; per
    MatMul node, pairs of spikes that it multiplies.
    """

    samples: int
    edges: dict[int, NDArray[np.int64]]
    coincidences: dict[int, int] = field(default_factory=dict)


def count_operations(graph: ir.Graph, trace: Mapping[int, Spikes]) -> list[LayerOperations]:
    """Mean operations per sample; trace: Lif or Mix node index -> spikes (T, N, C, H, W), 0 or 1."""
    return operations_of(graph, [spike_totals(graph, trace)])


def spike_totals(graph: ir.Graph, trace: Mapping[int, Spikes]) -> SpikeTotals:
    """Sums of the spikes on every edge of ``graph``, so that many batches can be counted one after the other."""
    missing = [graph.names[i] if graph.names else str(i) for i in _lifs(graph) if i not in trace]
    if missing:
        raise ValueError(f"the trace has no spikes of {', '.join(missing)}")
    edges: dict[int, Spikes] = {}
    coincidences: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        match node:
            case ir.Attention():
                coincidences[index] = _coincidences(edges[node.key], edges[node.value], node.heads)
            case ir.MatMul():
                coincidences[index] = matched_pairs(node, edges[node.left], edges[node.right])
            case ir.Lif() | ir.Mix():
                edges[index] = np.asarray(trace[index])
            case ir.Gate() | ir.Concat():
                stream_edge(node, index, edges)
            case ir.OrPool():
                edges[index] = _windows(edges[node.source], node.kernel, node.stride, node.padding).max((-2, -1))
            case ir.SumPool() if node.source in edges:
                windows = _windows(edges[node.source], node.kernel, node.stride, 0)
                edges[index] = windows.sum((-2, -1), dtype=np.uint8)
            case ir.Add():
                edges[index] = edges[node.left].astype(np.uint8) + edges[node.right].astype(np.uint8)
    samples = next(iter(edges.values())).shape[1] if edges else 0
    return SpikeTotals(samples, {i: e.sum((0, 1), dtype=np.int64) for i, e in edges.items()}, coincidences)


def operations_of(graph: ir.Graph, parts: Iterable[SpikeTotals]) -> list[LayerOperations]:
    """Mean operations per sample over all ``parts``, in the graph's order."""
    parts = list(parts)
    samples = sum(p.samples for p in parts)
    if not samples:
        raise ValueError("operations are counted from at least one sample")
    means = {i: np.sum([p.edges[i] for p in parts], 0) / samples for i in parts[0].edges}
    shapes = ir.node_shapes(graph)
    rows = []
    for index, node in enumerate(graph.nodes):
        name = graph.names[index] if graph.names else f"node {index}"
        match node:
            case ir.Conv() | ir.Linear() | ir.Readout():
                rows.append(_synapse(graph, name, node, shapes[node.source], shapes[index], means.get(node.source)))
            case ir.Attention():
                rows.append(_attention(graph, name, node, shapes, means, _mean_pairs(parts, index, samples)))
            case ir.Lif():
                rows += _shortcuts(graph, name, node, means)
                rows.append(_neurons(graph, name, node, shapes[index], means[index]))
            case ir.Stream() | ir.Reduce() | ir.MatMul() | ir.Product() | ir.Mix():
                rows += stream_rows(graph, index, shapes, means, _mean_pairs(parts, index, samples))
    return rows


def _mean_pairs(parts: list[SpikeTotals], index: int, samples: int) -> float:
    return sum(p.coincidences.get(index, 0) for p in parts) / samples


def fan_out(node: ir.Conv | ir.Linear | ir.Readout, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Weights that a spike at each pixel of the source (C, H, W) meets: (H, W), the same for every channel."""
    _, height, width = shape
    if not isinstance(node, ir.Conv):
        return np.full((height, width), node.weight.shape[0])
    outputs, _, kernel_height, kernel_width = node.weight.shape
    rows = _meetings(height, kernel_height, node.stride, node.padding)
    columns = _meetings(width, kernel_width, node.stride, node.padding)
    return np.outer(rows, columns) * (outputs // node.groups)


def _meetings(size: int, kernel: int, stride: int, padding: int) -> NDArray[np.int64]:
    """How many windows cover each position of an axis: a transposed convolution of ones, cropped to the axis."""
    covered = np.zeros(size + 2 * padding, np.int64)
    for start in range(0, size + 2 * padding - kernel + 1, stride):
        covered[start : start + kernel] += 1
    return covered[padding : padding + size]


def _synapse(
    graph: ir.Graph,
    name: str,
    node: ir.Conv | ir.Linear | ir.Readout,
    shape: tuple[int, int, int],
    output: tuple[int, int, int],
    spikes: NDArray[np.float64] | None,
) -> LayerOperations:
    sites = math.prod(shape)
    if isinstance(node, ir.Conv):
        once = single = node.weight.size * output[1] * output[2]
    else:
        once, single = node.weight.shape[0] * sites, node.weight.size
    numbers = spikes is None  # pixels, or a stream
    steps = graph.input.frames if node.source == 0 else graph.time_steps
    meets = fan_out(node, shape)
    synaptic = float(meets.sum() * shape[0] * steps) if spikes is None else float((spikes * meets).sum())
    return LayerOperations(
        name=name,
        kind="mac" if numbers else "ac",
        dense=once * steps,
        synaptic=synaptic,
        single_pass=single,
        updates=0,
        rate=None if spikes is None else float(spikes.sum()) / (sites * steps),
        bits=node.bits,
        fan_in=math.prod(node.weight.shape[1:]),
        weights=node.weight.size,
        steps=steps,
        reads=sites * steps,
        writes=0,
        odd=node.odd,
    )


def _attention(
    graph: ir.Graph,
    name: str,
    node: ir.Attention,
    shapes: list[tuple[int, int, int]],
    means: Mapping[int, NDArray[np.float64]],
    coincidences: float,
) -> LayerOperations:
    (channels, *query_size), (_, *key_size), (value_channels, *_) = (shapes[s] for s in ir.sources(node))
    queries, tokens = math.prod(query_size), math.prod(key_size)
    counts = channels * (value_channels // node.heads)  # of coincidences, per step
    once = counts * (tokens + queries)
    sites = channels * queries + (channels + value_channels) * tokens
    return LayerOperations(
        name=name,
        kind="ac",
        dense=once * graph.time_steps,
        synaptic=coincidences + float(means[node.query].sum()) * (value_channels // node.heads),
        single_pass=once,
        updates=0,
        rate=sum(float(means[s].sum()) for s in ir.sources(node)) / (sites * graph.time_steps),
        bits=tokens.bit_length() + 1,
        fan_in=channels // node.heads,
        weights=counts,
        steps=graph.time_steps,
        reads=sites * graph.time_steps,
        writes=0,
    )


def _coincidences(key: Spikes, value: Spikes, heads: int) -> int:
    """Pairs of spikes of key and value (T, N, C, H, W) in the same head, token and step."""
    k, v = (x.reshape(*x.shape[:2], heads, x.shape[2] // heads, -1).sum(3, dtype=np.int64) for x in (key, value))
    return int((k * v).sum())


def _shortcuts(
    graph: ir.Graph, name: str, node: ir.Lif, means: Mapping[int, NDArray[np.float64]]
) -> list[LayerOperations]:
    """Sources of a Lif that are spikes themselves: one accumulate per spike."""
    rows = []
    for source in node.sources:
        if source not in means:
            continue
        sites, spikes = means[source].size * graph.time_steps, float(means[source].sum())
        rows.append(
            LayerOperations(
                f"{name} shortcut",
                "shortcut",
                sites,
                spikes,
                0,
                0,
                spikes / sites,
                32,
                1,
                0,
                graph.time_steps,
                sites,
                0,
            )
        )
    return rows


def _neurons(
    graph: ir.Graph, name: str, node: ir.Lif, shape: tuple[int, int, int], spikes: NDArray[np.float64]
) -> LayerOperations:
    updates = math.prod(shape) * graph.time_steps
    rate = float(spikes.sum()) / updates
    return LayerOperations(
        name, "neuron", 0, 0.0, 0, updates, rate, node.membrane_bits, len(node.sources), 0, graph.time_steps, 0, updates
    )


def _lifs(graph: ir.Graph) -> list[int]:
    return [i for i, node in enumerate(graph.nodes) if isinstance(node, ir.Firing)]


def _windows(x: Spikes, kernel: int, stride: int, padding: int) -> Spikes:
    padded = np.pad(x, ((0, 0),) * 3 + ((padding, padding),) * 2)
    return sliding_window_view(padded, (kernel, kernel), (-2, -1))[..., ::stride, ::stride, :, :]
