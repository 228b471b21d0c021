"""What the nodes of :mod:`.ir_stream` mean; part of :mod:`.reference`. Edges are (T, N, C, H, W), int64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from . import ir
from .ir_stream import StreamNode, stream_sources

__all__ = ["run_stream_node"]

Array = NDArray[np.int64]


def run_stream_node(node: StreamNode, edges: Sequence[Array]) -> Array:
    """The node's edge, from all edges before it."""
    sources = [edges[s] for s in stream_sources(node)]
    match node:
        case ir.Stream():
            return _stream(node, sources)
        case ir.MaxPool():
            return _max_pool(node, sources[0])
        case ir.Reduce():
            return _reduce(node, sources[0])
        case ir.Gate():
            x, gate = sources
            return x * np.repeat(gate, x.shape[2] // gate.shape[2], 2)
        case ir.MatMul():
            return _matrix_product(node, *sources)
        case ir.Concat():
            return np.concatenate(sources, 2)
        case ir.Mix():
            weight = node.weight.astype(np.int64)
            mixed = np.tensordot(weight, sources[0], 1)
            return (mixed >= node.threshold.astype(np.int64).reshape(-1, 1, 1, 1, 1)).astype(np.int64)
        case ir.Product():
            return sources[0] * sources[1]


def _stream(node: ir.Stream, sources: list[Array]) -> Array:
    bias, shift = (p.astype(np.int64)[:, None, None] for p in (node.bias, node.shift))
    limit = 2 ** (node.bits - 1) - 1
    factors = node.multiplier.astype(np.int64)[:, :, None, :, None, None]  # (sources, S, 1, C, 1, 1)
    value = bias + sum(m * x for m, x in zip(factors, sources, strict=True))
    return np.clip((value + ((1 << shift) >> 1)) >> shift, -limit, limit)


def _max_pool(node: ir.MaxPool, x: Array) -> Array:
    padding = ((0, 0),) * 3 + ((node.padding, node.padding),) * 2
    padded = np.pad(x, padding, constant_values=np.iinfo(np.int64).min)
    windows = sliding_window_view(padded, (node.kernel, node.kernel), (-2, -1))
    largest: Array = windows[..., :: node.stride, :: node.stride, :, :].max((-2, -1))
    return largest


def _reduce(node: ir.Reduce, x: Array) -> Array:
    axes = {"channels": (3,), "tokens": (4, 5), "both": (3, 4, 5)}[node.axis]
    if node.axis == "tokens":
        return x.sum((3, 4), keepdims=True)
    heads = x.reshape(*x.shape[:2], node.heads, -1, *x.shape[3:])
    summed = heads.sum(axes)
    return summed if node.axis == "channels" else summed[..., None, None]


def _matrix_product(node: ir.MatMul, left: Array, right: Array) -> Array:
    steps, samples = left.shape[:2]
    a, b = (x.reshape(steps, samples, node.heads, x.shape[2] // node.heads, -1) for x in (left, right))
    if node.transpose == "right":
        return (a @ np.swapaxes(b, -1, -2)).reshape(steps, samples, -1, b.shape[3], 1)
    product = (np.swapaxes(a, -1, -2) if node.transpose == "left" else a) @ b
    return product.reshape(steps, samples, -1, *right.shape[3:])
