"""A network that grows node by node while it is simulated: weights, neurons and bookkeeping of the fuzzer's networks.

Because values are known, neurons get thresholds that their potentials really reach, just reach or just miss, and firing
rates cover 0 to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitspike.deploy import ir, reference

from .graphs import random_precision

Values = NDArray[np.int64]
Shape = tuple[int, int, int]

CHANNELS = (1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 127, 128, 129)
MAX_ELEMENTS = 2500  # of an edge at one time step
MAX_WEIGHTS = 12000  # of a node
MAX_PRODUCTS = 400_000  # of a node at one time step
STYLES = ("uniform", "uniform", "bell", "sparse", "max", "min", "signs", "zero")


class Builder:
    """Nodes with their values so far."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.steps = int(rng.integers(1, 10))
        self.nodes: list[ir.Node] = []
        self.values: list[Values] = []  # edges (T, N, C, H, W)
        self.kinds: list[str] = []
        self.reach: list[int] = []  # largest possible magnitude
        self.style = str(rng.choice(STYLES)) if rng.random() < 0.5 else ""  # of all weights, or drawn for each

    def append(self, node: ir.Node, values: Values, kind: str, reach: int) -> int:
        self.nodes.append(node)
        self.values.append(values)
        self.kinds.append(kind)
        self.reach.append(reach)
        return len(self.nodes) - 1

    def pick(self, *kinds: str) -> int:
        """A node of one of the kinds, most often the last."""
        found = self.of(*kinds)
        return found[-1] if self.rng.random() < 0.7 else int(self.rng.choice(found))

    def of(self, *kinds: str) -> list[int]:
        return [i for i, kind in enumerate(self.kinds) if kind in kinds]

    def shape(self, index: int) -> Shape:
        c, h, w = self.values[index].shape[2:]
        return (c, h, w)

    def loose(self) -> list[int]:
        """Nodes that no other reads yet."""
        used = {s for node in self.nodes for s in ir.sources(node)}
        return [i for i in range(len(self.nodes)) if i not in used]

    def width(self, inputs: int, pixels: int) -> int:
        """Output channels that keep a layer small."""
        most = min(MAX_WEIGHTS // inputs, MAX_ELEMENTS // pixels, MAX_PRODUCTS // (inputs * pixels))
        return int(self.rng.choice([m for m in CHANNELS if m <= max(most, 1)]))

    # --- weighted sums ---

    def project(self, source: int, same: bool = False) -> int:
        rng = self.rng
        channels, height, width = self.shape(source)
        kh = kw = int(rng.choice([1, 3, 3, 3]) if same else rng.choice([1, 1, 2, 3, 3, 3, 5]))
        if not same and rng.random() < 0.15:
            kw = int(rng.choice([1, 2, 3, 5]))
        stride, padding = (
            (1, kh // 2) if same else (int(rng.choice([1, 1, 1, 2, 3])), int(rng.integers(0, min(kh, kw))))
        )
        if height + 2 * padding < kh or width + 2 * padding < kw:
            kh = kw = 1
            padding = 0
        groups, out = 1, channels if same else self.width(channels * kh * kw, height * width)
        divisors = [g for g in range(2, channels + 1) if channels % g == 0]
        if divisors and rng.random() < 0.25:
            groups = channels if rng.random() < 0.4 else int(rng.choice(divisors))
            if not same:
                out = groups * int(rng.integers(1, max(2, 64 // groups + 1)))
        bits, odd = random_precision(rng)
        weight = self.weight((out, channels // groups, kh, kw), bits, odd)
        node = ir.Conv(source, weight, bits, stride, padding, groups, odd)
        return self.append(node, reference._conv(self.values[source], node), "current", self._most(source, weight))

    def linear(self, source: int, out: int) -> int:
        bits, odd = random_precision(self.rng)
        values = reference._flat(self.values[source])
        weight = self.weight((out, values.shape[-1]), bits, odd)
        product = (values @ weight.T.astype(np.int64))[..., None, None]
        return self.append(ir.Linear(source, weight, bits, odd), product, "current", self._most(source, weight))

    def _most(self, source: int, weight: ir.Weight) -> int:
        rows = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1)
        return max(int(rows.max()), 1) * self.reach[source]

    def sum_pool(self, source: int, kernel: int, stride: int) -> int:
        """Counts, or a current of a stream."""
        values = reference._windows(self.values[source], kernel, stride, 0).sum((-2, -1))
        kind = "current" if self.kinds[source] == "stream" else "counts"
        return self.append(ir.SumPool(source, kernel, stride), values, kind, self.reach[source] * kernel**2)

    # --- weights ---

    def weight(self, shape: tuple[int, ...], bits: int, odd: bool) -> ir.Weight:
        if odd:  # the levels 2 v + 1
            halves = self._symmetric(shape, bits)
            lowest = (self.rng.random(shape) < self.rng.choice([0, 0.05, 1])) & (halves == halves.min())
            return (2 * np.where(lowest, -(2 ** (bits - 1)), halves) + 1).astype(ir.weight_type(bits, odd))
        return self._symmetric(shape, bits).astype(np.int8)

    def _symmetric(self, shape: tuple[int, ...], bits: int) -> Values:
        rng, top = self.rng, max(2 ** (bits - 1) - 1, 1)
        style = self.style or rng.choice(STYLES)
        if bits == 1:
            ones = {"max": 1.0, "min": 0.0, "zero": 0.5, "sparse": 0.9}.get(style, 0.5)
            weight = np.where(rng.random(shape) < ones, 1, -1)
        elif style in ("max", "min"):
            weight = np.full(shape, top if style == "max" else -top)
        elif style == "zero":
            weight = np.zeros(shape, np.int64)
        elif style == "signs":  # rows that are nearly uniform
            weight = (
                top * rng.choice([-1, 1], (shape[0], *(1,) * (len(shape) - 1))) * rng.choice([-1, 1, 1, 1, 1], shape)
            )
        elif style == "bell":
            weight = np.clip(np.rint(rng.normal(0, top / 2.5, shape)), -top, top)
        else:
            weight = rng.integers(-top, top + 1, shape)
            if style == "sparse":
                weight = weight * (rng.random(shape) < 0.2)
        if rng.random() < 0.2 and bits > 1:  # some rows of one value
            weight[rng.random(shape[0]) < 0.3] = int(rng.choice([0, top, -top]))
        return weight.astype(np.int64)

    # --- neurons ---

    def neurons(self, *sources: int) -> int:
        rng, c = self.rng, self.shape(sources[0])[0]
        reach = int(rng.choice([1, 1, 1, 5, 300, 2**16], p=[0.3, 0.1, 0.1, 0.3, 0.15, 0.05]))
        reach = min(reach, 2**28 // max(self.reach[s] for s in sources))
        multiplier = np.ones((len(sources), c), np.int32)
        if reach > 1:
            multiplier = rng.integers(-reach // 4, reach + 1, (len(sources), c)).astype(np.int32)
        x = sum(m[:, None, None].astype(np.int64) * self.values[s] for m, s in zip(multiplier, sources, strict=True))
        flat = np.moveaxis(np.asarray(x), 2, 0).reshape(c, -1)
        bias = {
            0: np.zeros(c),
            1: -np.rint(flat.mean(1)),
            2: rng.integers(-9, 10, c),
            3: rng.integers(-1, 2, c) * (np.abs(flat).max(1) + 1),
        }[int(rng.integers(0, 4))].astype(np.int64)
        threshold = self.threshold(np.sort(flat, 1) + bias[:, None])
        membrane_bits = int(rng.integers(2, 17))
        if rng.random() < 0.8:  # a membrane that resolves its threshold, more or less
            length = np.ceil(np.log2(np.abs(threshold) + 2))
            shift = np.clip(length - membrane_bits + rng.integers(0, 3), 0, 20)
        else:
            shift = rng.integers(0, int(rng.choice([1, 5, 13])), c)
        leak = int(rng.choice([0, 1, 1, 2, 3, 15]))
        parameters = (bias.astype(np.int32), threshold.astype(np.int32), shift.astype(np.uint8))
        node = ir.Lif(sources, multiplier, *parameters, membrane_bits, leak, bool(rng.random() < 0.4))
        return self.append(node, reference.lif(np.asarray(x), node), "spikes", 1)

    def threshold(self, potential: Values) -> Values:
        """Thresholds for potentials (C, samples) sorted: at, just above or below one that occurs, or out of reach."""
        rng, (c, count) = self.rng, potential.shape
        rate = float(rng.choice([0.0, 0.01, 0.03, 0.1, 0.3, 0.9]))
        rank = np.full(c, int((1 - rate) * (count - 1))) if rng.random() < 0.7 else rng.integers(0, count, c)
        threshold = potential[np.arange(c), rank] + rng.integers(-1, 2, c)
        if rng.random() < 0.7:  # potentials add up over time
            threshold = threshold + (np.maximum(threshold, 0) * rng.choice([0.5, 1, 2, 4])).astype(np.int64)
        extreme = rng.random()
        if extreme < 0.05:
            threshold = potential[:, -1] * 2 + 100  # never
        elif extreme < 0.1:
            threshold = potential[:, 0] - np.abs(potential[:, 0]) - 100  # always
        elif extreme < 0.15:
            threshold = rng.integers(-(2**15) - 2, 2**15 + 2, c)  # around the end of 16 bits
        elif extreme < 0.2:
            threshold[:] = threshold[0]
        return np.clip(threshold, -(2**31) + 1, 2**31 - 1)
