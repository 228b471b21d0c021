"""Hand-made graphs of stream and attention nodes, with random parameters, at odd sizes."""

from __future__ import annotations

import numpy as np

from bitspike.deploy import ir

HEADS, STEPS = 2, 3


def lif(rng: np.random.Generator, channels: int, *sources: int, low: int = 0, high: int = 9) -> ir.Lif:
    return ir.Lif(
        sources,
        rng.integers(1, 4, (len(sources), channels)).astype(np.int32),
        rng.integers(-3, 4, channels).astype(np.int32),
        rng.integers(low, high, channels).astype(np.int32),
        rng.integers(0, 3, channels).astype(np.uint8),
        membrane_bits=12,
        leak_shift=1,
    )


def stream(rng: np.random.Generator, channels: int, *sources: int, steps: int = 1, bits: int = 9) -> ir.Stream:
    shape = (len(sources), steps, channels)
    return ir.Stream(
        sources,
        rng.integers(-40, 41, shape).astype(np.int32),
        rng.integers(-200, 201, channels).astype(np.int32),
        rng.integers(0, 6, channels).astype(np.uint8),
        bits,
    )


def conv(rng: np.random.Generator, source: int, inputs: int, outputs: int, kernel: int = 1) -> ir.Conv:
    weight = rng.integers(-7, 8, (outputs, inputs, kernel, kernel)).astype(np.int8)
    return ir.Conv(source, weight, 4, padding=kernel // 2)


def readout(rng: np.random.Generator, source: int, features: int, pool: bool) -> ir.Readout:
    weight = rng.integers(-7, 8, (5, features)).astype(np.int8)
    return ir.Readout(source, weight, rng.integers(-9, 10, 5).astype(np.int32), 4, pool)


def entry(rng: np.random.Generator, channels: int = 4, size: tuple[int, int] = (5, 3)) -> list[ir.Node]:
    """Input and a convolution of 2 x 5 x 3 samples: nodes 0 and 1, the current of ``channels``."""
    return [ir.Input(2, *size, 1, (100, 7)), conv(rng, 0, 2, channels, 3)]


def streams(seed: int) -> ir.Graph:
    """Streams of currents, spikes, counts, streams and the input, one multiplier a step; pools and the readout of a stream."""
    rng = np.random.default_rng(seed)
    nodes = entry(rng)
    nodes += [
        stream(rng, 4, 1, bits=12),  # 2: of a current of the input
        lif(rng, 4, 2, high=60),  # 3
        conv(rng, 3, 4, 4),  # 4
        stream(rng, 4, 2, 4, steps=STEPS),  # 5
        ir.Add(3, 3),  # 6
        lif(rng, 4, 5, 6, low=-5),  # 7
        stream(rng, 4, 5, 7, 6, 4, bits=24),  # 8
        ir.MaxPool(8, 3, 2, 1),  # 9: 4 x 3 x 2
        ir.SumPool(9, 2, 1),  # 10: 4 x 2 x 1
        stream(rng, 4, 10, steps=STEPS, bits=2),  # 11
        ir.Reduce(8, 1, "tokens"),  # 12
        lif(rng, 4, 12, high=40),  # 13
        ir.Concat((11, 11)),  # 14: 8 x 2 x 1
        stream(rng, 2, 0),  # 15: of the input
        ir.MaxPool(15, 2, 3),  # 16: 2 x 2 x 1
        ir.Concat((16, 14, 16)),  # 17: 12 x 2 x 1
        ir.SumPool(17, 1, 1),  # 18
        lif(rng, 12, 18, 17, low=-20),  # 19
        ir.Reduce(19, 1, "tokens"),  # 20: 12 x 1 x 1
        lif(rng, 12, 20),  # 21
        ir.Linear(13, rng.integers(-7, 8, (12, 4)).astype(np.int8), 4),  # 22
        lif(rng, 12, 22, 21),  # 23
        ir.Gate(19, 23),  # 24
        stream(rng, 12, 24, 17),  # 25
        readout(rng, 25, 24 if seed % 2 else 12, not seed % 2),
    ]
    return ir.Graph(STEPS, nodes)


def attention(seed: int) -> ir.Graph:
    """Binary attention in both orders of its products, and masks of every axis; 5 x 3 tokens, two heads."""
    rng = np.random.default_rng(seed)
    nodes = entry(rng, 6)
    nodes += [
        lif(rng, 6, 1, low=-300, high=300),  # 2
        conv(rng, 2, 6, 6),  # 3
        lif(rng, 6, 3),  # 4: query, key
        conv(rng, 2, 6, 10),  # 5
        lif(rng, 10, 5),  # 6: value
        ir.MatMul(2, 4, HEADS, "left"),  # 7: key^T query, (2 * 15) x 5 x 3
        lif(rng, 30, 7, high=4),  # 8
        ir.MatMul(6, 8, HEADS, "none"),  # 9: 10 x 5 x 3
        lif(rng, 10, 9, high=5),  # 10
        ir.MatMul(6, 4, HEADS, "right"),  # 11: 10 x 3 x 1
        lif(rng, 10, 11, high=8),  # 12
        ir.MatMul(12, 2, HEADS),  # 13: 10 x 5 x 3
        stream(rng, 10, 13, 9, steps=STEPS),  # 14
        lif(rng, 10, 14, high=20),  # 15
        ir.Reduce(15, HEADS, "channels"),  # 16: 2 x 5 x 3
        lif(rng, HEADS, 16, high=5),  # 17
        ir.Gate(10, 17),  # 18
        ir.Reduce(15, 1, "tokens"),  # 19: 10 x 1 x 1
        lif(rng, 10, 19, high=12),  # 20
        ir.Gate(18, 20),  # 21
        ir.Reduce(21, HEADS, "both"),  # 22: 2 x 1 x 1
        lif(rng, HEADS, 22, high=6),  # 23
        ir.Gate(15, 23),  # 24
        ir.Concat((24, 21, 4)),  # 25: 26 x 5 x 3
        ir.OrPool(25, 2, 2),  # 26: 26 x 2 x 1
        readout(rng, 26, 26 if seed % 2 else 52, bool(seed % 2)),
    ]
    return ir.Graph(STEPS, nodes)


def mixing(seed: int) -> ir.Graph:
    """Neurons that see all earlier steps, of a current, a stream and counts, and a product of two sums."""
    rng = np.random.default_rng(seed)

    def mix(source: int, spread: int) -> ir.Mix:
        weight = np.tril(rng.integers(-9, 10, (STEPS, STEPS))).astype(np.int32)
        return ir.Mix(source, weight, rng.integers(-spread, spread, STEPS).astype(np.int32))

    nodes = entry(rng)
    nodes += [
        mix(1, 400),  # 2
        stream(rng, 4, 1),  # 3
        mix(3, 500),  # 4
        ir.Reduce(2, HEADS, "channels"),  # 5
        ir.Reduce(4, HEADS, "both"),  # 6
        ir.Product(5, 6),  # 7
        mix(7, 60),  # 8
        ir.Gate(4, 8),  # 9
        ir.Add(9, 2),  # 10
        mix(10, 6),  # 11
        readout(rng, 11, 4, True),
    ]
    return ir.Graph(STEPS, nodes)


GRAPHS = {"streams": streams, "attention": attention, "mixing": mixing}


def samples(seed: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 2, 5, 3), dtype=np.uint8)
