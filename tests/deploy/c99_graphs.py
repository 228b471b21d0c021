"""Graphs that meet every path of the C emitter: odd channel counts, all bits, groups, frames, counts, wide sums."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bitspike.deploy import ir

sys.path.append(str(Path(__file__).parent.parent / "engine"))
from graphs import random_graph, random_samples, random_weight

__all__ = [
    "chain",
    "edge_of_32_bits",
    "grouped",
    "heads",
    "long_lists",
    "random_graph",
    "random_samples",
    "tall_counts",
]

Rng = np.random.Generator


def lif(
    rng: Rng, sources: tuple[int, ...], channels: int, scale: int, *, bits: int = 4, leak: int = 1, soft: bool = False
) -> ir.Lif:
    """Neurons with mixed signs, some of which fire always or never; ``scale`` is that of their currents."""
    multiplier = rng.choice([-3, -1, 1, 1, 2], (len(sources), channels)).astype(np.int32)
    bias, threshold = (rng.integers(-scale // 4, scale + 1, channels).astype(np.int32) for _ in range(2))
    shift = rng.integers(0, max(scale.bit_length() - 2, 1), channels).astype(np.uint8)
    return ir.Lif(sources, multiplier, bias, threshold, shift, bits, leak, soft)


def readout(rng: Rng, source: int, features: int, bits: int, *, pool: bool = False, odd: bool = False) -> ir.Readout:
    weight = random_weight(rng, (7, features), bits, odd=odd)
    return ir.Readout(source, weight, rng.integers(-99, 99, 7).astype(np.int32), bits, pool, odd)


def chain(
    rng: Rng, channels: list[int], bits: list[int], steps: int, *, frames: bool, side: int = 4, odd: bool = False
) -> ir.Graph:
    """3x3 convolutions one after the other on a side x (side + 1) image."""
    extreme = bool(rng.random() < 0.5)
    nodes: list[ir.Node] = [ir.Input(2, side, side + 1, steps if frames else 1, (3, 200))]
    count = 2
    for wanted, b in zip(channels, bits, strict=True):
        marked = odd and b > 1
        weight = random_weight(rng, (wanted, count, 3, 3), b, extreme=extreme, odd=marked)
        first = len(nodes) == 1
        nodes.append(ir.Conv(len(nodes) - 1, weight, b, padding=1, odd=marked))
        scale = 2**b * (200 if first else 2 + count // 4)
        membrane, soft = int(rng.integers(2, 17)), bool(rng.random() < 0.5)
        nodes.append(lif(rng, (len(nodes) - 1,), wanted, scale, bits=membrane, leak=int(rng.integers(0, 4)), soft=soft))
        count = wanted
    nodes.append(readout(rng, len(nodes) - 1, count * side * (side + 1), bits[-1], odd=odd and bits[-1] > 1))
    return ir.Graph(steps, nodes)


def grouped(rng: Rng, bits: int, odd: bool = False) -> ir.Graph:
    """Groups of many, few and single channels, of the input, of spikes and of counts; stride 2; two sources."""
    nodes: list[ir.Node] = [ir.Input(4, 6, 5, 1, (10, 20, 30, 40))]
    nodes += [ir.Conv(0, random_weight(rng, (24, 2, 3, 3), 8), 8, padding=1, groups=2), lif(rng, (1,), 24, 4000)]
    nodes += [
        ir.Conv(2, random_weight(rng, (24, 1, 3, 3), bits, odd=odd), bits, padding=1, groups=24, odd=odd)
    ]  # depthwise
    nodes += [
        ir.Conv(2, random_weight(rng, (24, 12, 1, 1), bits, odd=odd), bits, groups=2, odd=odd),
        lif(rng, (3, 4), 24, 6 * 2**bits),
    ]
    nodes += [ir.Add(2, 5)]
    nodes += [ir.Conv(6, random_weight(rng, (30, 8, 3, 2), bits, odd=odd), bits, 2, 1, 3, odd)]  # of counts
    nodes += [lif(rng, (7,), 30, 8 * 2**bits, soft=True)]
    nodes += [
        ir.Conv(6, random_weight(rng, (24, 1, 2, 2), bits, odd=odd), bits, groups=24, odd=odd),
        lif(rng, (9,), 24, 3 * 2**bits),
    ]
    nodes += [ir.OrPool(10, 3, 2, 1), ir.Linear(8, random_weight(rng, (9, 30 * 3 * 3), bits, odd=odd), bits, odd)]
    nodes += [lif(rng, (12,), 9, 20 * 2**bits), ir.Linear(11, random_weight(rng, (9, 24 * 3 * 2), 1), 1)]
    nodes += [lif(rng, (14,), 9, 20), ir.Add(13, 15), readout(rng, 16, 9, bits, pool=True, odd=odd)]
    return ir.Graph(3, nodes)


def heads(rng: Rng, channels: int, count: int) -> ir.Graph:
    """Attention whose heads need not end at a byte; its Lif adds a shortcut."""
    nodes: list[ir.Node] = [ir.Input(1, 3, 4, 2, (100,))]
    for _ in range(3):
        nodes.append(ir.Conv(0, random_weight(rng, (channels, 1, 1, 1), 8), 8))
        nodes.append(lif(rng, (len(nodes) - 1,), channels, 2000))
    nodes += [ir.Attention(2, 4, 6, count), lif(rng, (7, 2), channels, 12)]
    nodes.append(readout(rng, 8, channels, 5, pool=True))
    return ir.Graph(2, nodes)


def tall_counts(rng: Rng) -> ir.Graph:
    """Counts of up to 225 into 8-bit and 1-bit weights, into neurons directly, and into the readout."""
    nodes: list[ir.Node] = [ir.Input(1, 15, 16, 1, (0,)), ir.Conv(0, random_weight(rng, (11, 1, 1, 1), 3), 3)]
    nodes += [lif(rng, (1,), 11, 300), ir.SumPool(2, 15, 1)]
    nodes += [ir.Linear(3, np.full((13, 22), -127, np.int8), 8), lif(rng, (4,), 13, 90000)]
    nodes += [ir.Conv(3, random_weight(rng, (13, 11, 1, 2), 1), 1), lif(rng, (6,), 13, 400)]
    nodes += [lif(rng, (3,), 11, 100), ir.SumPool(8, 1, 1), ir.Linear(9, random_weight(rng, (13, 22), 2), 2)]
    nodes += [lif(rng, (10, 5), 13, 9), ir.Add(7, 11), ir.Add(12, 5), readout(rng, 13, 13, 8)]
    return ir.Graph(5, nodes)


def long_lists(rng: Rng) -> ir.Graph:
    """Lists that are counted in parts, and row numbers beyond 16 bits."""
    nodes: list[ir.Node] = [ir.Input(1, 66, 63, 1, (128,)), ir.Conv(0, random_weight(rng, (16, 1, 1, 1), 8), 8)]
    nodes += [lif(rng, (1,), 16, 3000), ir.Linear(2, random_weight(rng, (5, 16 * 66 * 63), 1), 1)]
    nodes += [lif(rng, (3,), 5, 400), readout(rng, 4, 5, 2)]
    return ir.Graph(2, nodes)


def edge_of_32_bits() -> ir.Graph:
    """Biases and thresholds so large that intermediate sums wrap, while every proven bound holds."""
    top = 2**31 - 1
    nodes: list[ir.Node] = [ir.Input(1, 2, 2, 1, (128,)), ir.Conv(0, np.array([1, -1], np.int8).reshape(2, 1, 1, 1), 1)]
    room = top - 128 * 2**20 - 2**20 - 1000
    for soft in (False, True):
        bias = np.array([room, -room], np.int32) if not soft else np.array([1000, -1000], np.int32)
        threshold = np.array([top, -top], np.int32) if not soft else np.array([room // 2, -(room // 2)], np.int32)
        factor = np.full((1, 2), 2**20, np.int32)
        nodes.append(ir.Lif((1,), factor, bias, threshold, np.array([0, 1], np.uint8), 8, 1, soft))
    lowest = np.full(2, -(2**31), np.int32)
    nodes.append(ir.Lif((1,), np.ones((1, 2), np.int32), np.zeros(2, np.int32), lowest, np.zeros(2, np.uint8), 16, 0))
    nodes += [ir.Add(2, 3), ir.Add(5, 4), ir.Readout(6, np.ones((2, 2), np.int8), np.zeros(2, np.int32), 1, True)]
    return ir.Graph(4, nodes)
