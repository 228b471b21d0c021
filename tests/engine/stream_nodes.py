"""Graphs of streams, products of spike matrices, masks and mixing neurons, for tests of the engine."""

from __future__ import annotations

import numpy as np
from graphs import random_weight

from bitspike.deploy import ir

STEPS = 3


def lif(source: int | tuple[int, ...], channels: int, threshold: int = 2) -> ir.Lif:
    sources = (source,) if isinstance(source, int) else source
    ones, zeros = np.ones((len(sources), channels), np.int32), np.zeros(channels, np.int32)
    return ir.Lif(sources, ones, zeros, np.full(channels, threshold, np.int32), zeros.astype(np.uint8), 12, 1)


def stream(*sources: int, channels: int, steps: int = 1, bits: int = 12, scale: int = 1, shift: int = 0) -> ir.Stream:
    multiplier = np.full((len(sources), steps, channels), scale, np.int32)
    return ir.Stream(sources, multiplier, np.zeros(channels, np.int32), np.full(channels, shift, np.uint8), bits)


def front(rng: np.random.Generator, channels: int, height: int, width: int) -> list[ir.Node]:
    """Spikes (node 2) of random frames."""
    weight = random_weight(rng, (channels, 2, 1, 1), 4)
    return [ir.Input(2, height, width, STEPS, (128, 128)), ir.Conv(0, weight, 4), lif(1, channels, 50)]


def finish(nodes: list[ir.Node], rng: np.random.Generator) -> ir.Graph:
    """With a readout of everything that nothing reads, through neurons of one shape."""
    used = {s for node in nodes for s in ir.sources(node)}
    shapes = ir.node_shapes(ir.Graph(STEPS, nodes))
    ends = []
    for i in [i for i in range(len(nodes)) if i not in used]:
        size = int(np.prod(shapes[i]))
        if not isinstance(nodes[i], ir.Lif | ir.Mix | ir.Gate | ir.Concat):
            nodes.append(lif(i, shapes[i][0]))
            i = len(nodes) - 1
        nodes += [ir.Linear(i, random_weight(rng, (9, size), 3), 3), lif(len(nodes), 9)]
        ends.append(len(nodes) - 1)
    if len(ends) > 1:
        nodes.append(ir.Concat(tuple(ends)))
    features = 9 * len(ends)
    nodes.append(ir.Readout(len(nodes) - 1, random_weight(rng, (4, features), 3), np.zeros(4, np.int32), 3))
    return ir.Graph(STEPS, nodes)


def frames(rng: np.random.Generator, graph: ir.Graph, count: int = 2) -> np.ndarray:
    node = graph.input
    return rng.integers(0, 256, (count, STEPS, node.channels, node.height, node.width), np.uint8)


def everything() -> ir.Graph:
    """One of each node, on 4 x 3 x 3 spikes (node 2)."""
    rng = np.random.default_rng(4)
    nodes = front(rng, 4, 3, 3)
    nodes += [
        stream(0, channels=2),  # 3
        stream(2, 1, 2, channels=4, steps=STEPS),  # 4
        ir.MaxPool(4, 2, 1),  # 5: 4 x 2 x 2
        ir.Concat((5, 5, 5)),  # 6: 12 x 2 x 2
        ir.SumPool(6, 2, 1),  # 7: 12 x 1 x 1
        ir.Reduce(2, 2, "channels"),  # 8: 2 x 3 x 3
        lif((8, 3), 2),  # 9
        ir.Gate(2, 9),  # 10
        ir.MatMul(10, 2, 2, "left"),  # 11: 18 x 3 x 3
        lif(11, 18),  # 12
        ir.MatMul(2, 12, 2),  # 13: 4 x 3 x 3
        ir.Mix(13, np.tril(np.ones((STEPS, STEPS), np.int32)), np.array([1, 2, 3], np.int32)),  # 14
        ir.Reduce(14, 2, "both"),  # 15: 2 x 1 x 1
        ir.Product(8, 15),  # 16: 2 x 3 x 3
        lif(16, 2),  # 17
        ir.Concat((17, 14)),  # 18
        ir.MatMul(14, 18, 1, "right"),  # 19: 4 x 6 x 1
        ir.Reduce(5, 1, "tokens"),  # 20: 4 x 1 x 1
    ]
    return finish(nodes, rng)
