"""What an integer graph means: the numpy reference that every other executor must equal bit for bit.

Written for reading, not for speed. Arithmetic is int64, so nothing here can overflow on a valid graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from . import ir
from .reference_stream import run_stream_node

__all__ = ["Result", "lif", "run"]

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """``logits`` (N, classes) int32; ``steps`` (T, N, classes) int32; ``spikes``: Lif or Mix node index -> (T, N, C, H, W)."""

    logits: NDArray[np.int32]
    steps: NDArray[np.int32]
    spikes: dict[int, NDArray[np.uint8]]


def run(graph: ir.Graph, samples: NDArray[np.uint8]) -> Result:
    """Run ``samples`` (N, C, H, W), or (N, T, C, H, W) for frame input, through the graph."""
    time_steps = graph.time_steps
    edges: list[Array] = []  # each (T, N, C, H, W)
    spikes: dict[int, NDArray[np.uint8]] = {}
    for index, node in enumerate(graph.nodes):
        match node:
            case ir.Input():
                edges.append(_present(node, samples, time_steps))
            case ir.Conv():
                edges.append(_conv(edges[node.source], node))
            case ir.Linear():
                edges.append(_flat(edges[node.source]) @ node.weight.T.astype(np.int64))
                edges[-1] = edges[-1][..., None, None]
            case ir.Lif():
                current = sum(
                    m[:, None, None].astype(np.int64) * edges[s]
                    for m, s in zip(node.multiplier, node.sources, strict=True)
                )
                edges.append(lif(np.asarray(current), node))
            case ir.OrPool():
                edges.append(_windows(edges[node.source], node.kernel, node.stride, node.padding).max((-2, -1)))
            case ir.SumPool():
                edges.append(_windows(edges[node.source], node.kernel, node.stride, 0).sum((-2, -1)))
            case ir.Add():
                edges.append(edges[node.left] + edges[node.right])
            case ir.Attention():
                edges.append(_attention(edges[node.query], edges[node.key], edges[node.value], node.heads))
            case ir.Readout():
                source = edges[node.source]
                features = source.sum((-2, -1)) if node.pool else _flat(source)
                edges.append(features @ node.weight.T.astype(np.int64) + node.bias)
            case _:
                edges.append(run_stream_node(node, edges))
        if isinstance(node, ir.Firing):
            spikes[index] = edges[-1].astype(np.uint8)
    steps = edges[-1]
    return Result(steps.sum(0).astype(np.int32), steps.astype(np.int32), spikes)


def lif(current: Array, node: ir.Lif) -> Array:
    """Spikes (T, N, C, H, W) of the neurons for ``current`` (T, N, C, H, W) before the bias; see :class:`ir.Lif`."""
    bias, threshold, shift = (
        p.astype(np.int64)[:, None, None] for p in (node.bias, node.threshold, node.membrane_shift)
    )
    limit = 2 ** (node.membrane_bits - 1) - 1
    carry = np.zeros_like(current[0])
    spikes = np.zeros_like(current)
    for t, x in enumerate(current):
        leaked = carry - (carry >> node.leak_shift) if node.leak_shift else carry
        u = leaked + x + bias
        spikes[t] = u >= threshold
        rest = u - spikes[t] * threshold if node.soft_reset else u * (1 - spikes[t])
        carry = np.clip((rest + ((1 << shift) >> 1)) >> shift, -limit, limit) << shift
    return spikes


def _present(node: ir.Input, samples: NDArray[np.uint8], time_steps: int) -> Array:
    values = samples.astype(np.int64) - np.asarray(node.zero_point, np.int64)[:, None, None]
    if node.frames == 1:
        return np.broadcast_to(values, (time_steps, *values.shape))
    return np.moveaxis(values, 1, 0)


def _flat(x: Array) -> Array:
    return x.reshape(*x.shape[:2], -1)


def _windows(x: Array, kernel: int | tuple[int, int], stride: int, padding: int) -> Array:
    """Windows (T, N, C, H', W', kh, kw) of the zero-padded input."""
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    padded = np.pad(x, ((0, 0),) * 3 + ((padding, padding),) * 2)
    return sliding_window_view(padded, (kh, kw), (-2, -1))[..., ::stride, ::stride, :, :]


def _attention(query: Array, key: Array, value: Array, heads: int) -> Array:
    q, k, v = (x.reshape(*x.shape[:2], heads, x.shape[2] // heads, -1) for x in (query, key, value))
    pairs = k @ np.swapaxes(v, -1, -2)  # (T, N, heads, d, dv)
    return (np.swapaxes(pairs, -1, -2) @ q).reshape(*value.shape[:3], *query.shape[3:])


def _conv(x: Array, node: ir.Conv) -> Array:
    weight = node.weight.astype(np.float64)  # float64 products of these integers are exact, and use BLAS
    windows = _windows(x, (weight.shape[2], weight.shape[3]), node.stride, node.padding)
    t, n, c, h, w = windows.shape[:5]
    grouped = windows.reshape(t, n, node.groups, c // node.groups, *windows.shape[3:])
    patches = np.moveaxis(grouped, 3, 5).reshape(t, n, node.groups, h * w, -1).astype(np.float64)
    kernels = weight.reshape(node.groups, weight.shape[0] // node.groups, -1)
    out = patches @ np.swapaxes(kernels, 1, 2)  # (T, N, groups, H'·W', M / groups)
    return np.rint(np.moveaxis(out, -1, 3)).astype(np.int64).reshape(t, n, -1, h, w)
