"""A second, naive meaning of graphs with stream and attention nodes: loops over single values of single samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bitspike.deploy import ir

Edge = dict[tuple[int, int, int], int]  # (channel, row, column) -> value


def sites(shape: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    return itertools.product(*map(range, shape))


def naive(graph: ir.Graph, sample: np.ndarray) -> tuple[list[int], dict[int, np.ndarray]]:
    """Logits and spikes (T, C, H, W) of one sample, one value at a time."""
    shapes = ir.node_shapes(graph)
    logits = [0] * shapes[-1][0]
    carried: dict[int, Edge] = {}
    history: list[list[Edge]] = []
    for t in range(graph.time_steps):
        edges: list[Edge] = []
        history.append(edges)
        for index, node in enumerate(graph.nodes):
            reads = [edges[s] for s in ir.sources(node)]
            sizes = [shapes[s] for s in ir.sources(node)]
            edge: Edge = {}
            for site in sites(shapes[index]):
                match node:
                    case ir.Input():
                        edge[site] = int(sample[site]) - node.zero_point[site[0]]
                    case ir.Lif():
                        edge[site] = fire(node, site, reads, carried.setdefault(index, {}))
                    case ir.Mix():
                        mixed = sum(int(node.weight[t, j]) * history[j][node.source][site] for j in range(t + 1))
                        edge[site] = int(mixed >= node.threshold[t])
                    case _:
                        edge[site] = RULES[type(node)](node, t, site, reads, sizes)
            edges.append(edge)
        logits = [total + edges[-1][k, 0, 0] for k, total in enumerate(logits)]
    spikes = {
        i: np.array([list(edges[i].values()) for edges in history]).reshape(graph.time_steps, *shapes[i])
        for i, node in enumerate(graph.nodes)
        if isinstance(node, ir.Lif | ir.Mix)
    }
    return logits, spikes


def fire(node: ir.Lif, site: tuple[int, int, int], reads: list[Edge], carried: Edge) -> int:
    c = site[0]
    carry, limit, shift = carried.get(site, 0), 2 ** (node.membrane_bits - 1) - 1, int(node.membrane_shift[c])
    u = carry - (carry >> node.leak_shift) + int(node.bias[c])
    u += sum(int(m[c]) * x[site] for m, x in zip(node.multiplier, reads, strict=True))
    spike = int(u >= node.threshold[c])
    carried[site] = max(-limit, min(limit, ((0 if spike else u) + ((1 << shift) >> 1)) >> shift)) << shift
    return spike


def window(node: Any, site: tuple[int, int, int], x: Edge, padding: int, kernel: tuple[int, int]) -> list[int]:
    c, row, column = site
    places = itertools.product(range(kernel[0]), range(kernel[1]))
    found = ((c, row * node.stride - padding + i, column * node.stride - padding + j) for i, j in places)
    return [x[place] for place in found if place in x]


def convolve(node: ir.Conv, t: int, site: tuple[int, int, int], reads: list[Edge], sizes: list[Any]) -> int:
    m, row, column = site
    total = 0
    for c, i, j in sites(node.weight.shape[1:]):
        place = (c, row + i - node.padding, column + j - node.padding)
        total += int(node.weight[m, c, i, j]) * reads[0].get(place, 0)
    return total


def fixed_point(node: ir.Stream, t: int, site: tuple[int, int, int], reads: list[Edge], sizes: list[Any]) -> int:
    c = site[0]
    step = t if node.multiplier.shape[1] > 1 else 0
    value = int(node.bias[c]) + sum(int(m[step, c]) * x[site] for m, x in zip(node.multiplier, reads, strict=True))
    shift, limit = int(node.shift[c]), 2 ** (node.bits - 1) - 1
    rounded = (2 * value + 2**shift) // 2 ** (shift + 1) if shift else value
    return max(-limit, min(limit, rounded))


def reduce(node: ir.Reduce, t: int, site: tuple[int, int, int], reads: list[Edge], sizes: list[Any]) -> int:
    width = sizes[0][0] // node.heads
    total = 0
    for place, value in reads[0].items():
        group = place[0] if node.axis == "tokens" else place[0] // width
        pixel = place[1:] if node.axis == "channels" else (0, 0)
        total += value * ((group, *pixel) == site)
    return total


def gate(node: ir.Gate, t: int, site: tuple[int, int, int], reads: list[Edge], sizes: list[Any]) -> int:
    (channels, *size), (masks, *mask_size) = sizes
    pixel = site[1:] if mask_size == size else (0, 0)
    return reads[0][site] * reads[1][site[0] // (channels // masks), *pixel]


def multiply(node: ir.MatMul, t: int, site: tuple[int, int, int], reads: list[Edge], sizes: list[Any]) -> int:
    matrices = []
    for edge, (channels, height, width) in zip(reads, sizes, strict=True):
        values = np.array([edge[s] for s in sites((channels, height, width))])
        matrices.append(values.reshape(node.heads, channels // node.heads, height * width))
    left, right = matrices
    rows = left.shape[2 if node.transpose == "left" else 1]
    head, row = divmod(site[0], rows)
    column = site[1] if node.transpose == "right" else site[1] * sizes[1][2] + site[2]
    first = left[head][:, row] if node.transpose == "left" else left[head][row]
    second = right[head][column] if node.transpose == "right" else right[head][:, column]
    return sum(int(a) & int(b) for a, b in zip(first, second, strict=True))


def concatenate(node: ir.Concat, t: int, site: tuple[int, int, int], reads: list[Edge], sizes: list[Any]) -> int:
    channel = site[0]
    for edge, size in zip(reads, sizes, strict=True):
        if channel < size[0]:
            return edge[channel, *site[1:]]
        channel -= size[0]
    raise AssertionError


def read_out(node: ir.Readout, t: int, site: tuple[int, int, int], reads: list[Edge], sizes: list[Any]) -> int:
    area = sizes[0][1] * sizes[0][2] if node.pool else 1
    return int(node.bias[site[0]]) + sum(
        int(node.weight[site[0], k // area]) * value for k, value in enumerate(reads[0].values())
    )


RULES: dict[type, Callable[..., int]] = {
    ir.Conv: convolve,
    ir.Linear: lambda n, t, site, reads, sizes: sum(
        int(w) * v for w, v in zip(n.weight[site[0]], reads[0].values(), strict=True)
    ),
    ir.OrPool: lambda n, t, site, reads, sizes: max(window(n, site, reads[0], n.padding, (n.kernel, n.kernel))),
    ir.MaxPool: lambda n, t, site, reads, sizes: max(window(n, site, reads[0], n.padding, (n.kernel, n.kernel))),
    ir.SumPool: lambda n, t, site, reads, sizes: sum(window(n, site, reads[0], 0, (n.kernel, n.kernel))),
    ir.Add: lambda n, t, site, reads, sizes: reads[0][site] + reads[1][site],
    ir.Stream: fixed_point,
    ir.Reduce: reduce,
    ir.Gate: gate,
    ir.MatMul: multiply,
    ir.Concat: concatenate,
    ir.Product: lambda n, t, site, reads, sizes: reads[0][site] * reads[1][site[0], 0, 0],
    ir.Readout: read_out,
}
