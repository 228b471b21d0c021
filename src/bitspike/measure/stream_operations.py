"""Operations of streams, sums and products of spikes, and mixing neurons; part of :mod:`.operations`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..deploy import ir
from ..deploy.ir_stream import stream_shape
from .operation_rows import LayerOperations

__all__ = ["matched_pairs", "matrix_products", "stream_edge", "stream_rows"]

Spikes = NDArray[Any]
Shapes = list[tuple[int, int, int]]
MIX_BITS = 32  # of the sums that a mixing neuron keeps


def stream_edge(node: ir.Gate | ir.Concat, index: int, edges: dict[int, Spikes]) -> None:
    """Add the node's edge of spikes (T, N, C, H, W) to ``edges``; a Concat of streams has none."""
    if isinstance(node, ir.Gate):
        spikes, mask = edges[node.source], edges[node.gate]
        edges[index] = spikes * np.repeat(mask, spikes.shape[2] // mask.shape[2], 2)
    elif node.sources[0] in edges:
        edges[index] = np.concatenate([edges[s] for s in node.sources], 2)


def matched_pairs(node: ir.MatMul, left: Spikes, right: Spikes) -> int:
    """Pairs of a spike of ``left`` and one of ``right`` (T, N, C, H, W) that a product of the MatMul holds."""
    a, b = (
        x.reshape(*x.shape[:2], node.heads, x.shape[2] // node.heads, -1).sum(axis, dtype=np.int64)
        for x, axis in ((left, 4 if node.transpose == "left" else 3), (right, 3 if node.transpose == "right" else 4))
    )
    return int((a * b).sum())


def stream_rows(
    graph: ir.Graph, index: int, shapes: Shapes, means: Mapping[int, NDArray[np.float64]], pairs: float
) -> list[LayerOperations]:
    """The node's operations: none for sums over the pixels of a stream, which are pooling."""
    node, steps = graph.nodes[index], graph.time_steps
    name = graph.names[index] if graph.names else f"node {index}"
    sites = math.prod(shapes[index])
    read = [math.prod(shapes[s]) for s in ir.sources(node)]
    spikes = [float(means[s].sum()) for s in ir.sources(node) if s in means]
    match node:
        case ir.Stream():
            return [_row(name, "stream", steps, updates=sites * steps, bits=node.bits, fan_in=len(node.sources))]
        case ir.Mix():
            rate = float(means[index].sum()) / (sites * steps)
            updates = sites * steps
            return [_row(name, "neuron", steps, updates=updates, bits=MIX_BITS, rate=rate, writes=updates)]
        case ir.Reduce() if spikes:
            summed = read[0] // sites
            rate = spikes[0] / (read[0] * steps)
            return [
                _row(name, "ac", steps, read[0], spikes[0], bits=2, fan_in=summed, rate=rate, reads=read[0] * steps)
            ]
        case ir.MatMul():
            inner = _inner(node, shapes)
            rate = sum(spikes) / (sum(read) * steps)
            return [
                _row(
                    name, "ac", steps, sites * inner, pairs,
                    bits=1, fan_in=inner, rate=rate, weights=read[0], reads=read[1] * steps,
                )
            ]  # fmt: skip
        case ir.Product():
            return [_row(name, "mac", steps, sites, float(sites * steps), bits=8, fan_in=1, reads=sites * steps)]
        case _:
            return []


def matrix_products(node: ir.MatMul, shapes: Shapes) -> int:
    """Pairs of bits that a MatMul holds against each other in a step."""
    return _inner(node, shapes) * math.prod(stream_shape(node, [shapes[node.left], shapes[node.right]]))


def _inner(node: ir.MatMul, shapes: Shapes) -> int:
    channels, height, width = shapes[node.left]
    return channels // node.heads if node.transpose == "left" else height * width


def _row(
    name: str,
    kind: str,
    steps: int,
    once: int = 0,
    synaptic: float = 0.0,
    *,
    bits: int,
    updates: int = 0,
    fan_in: int = 1,
    rate: float | None = None,
    weights: int = 0,
    reads: int = 0,
    writes: int = 0,
) -> LayerOperations:
    return LayerOperations(
        name, kind, once * steps, synaptic, once, updates, rate, bits, fan_in, weights, steps, reads, writes
    )
