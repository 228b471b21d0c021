"""Cases of the differential fuzzer: small networks of every kind with the reference's results inside.

    python -m tests.engine.fuzz_graphs --first SEED --count N > STREAM      (u64 seed, u32 size, artifact) per case
    python -m tests.engine.fuzz_graphs --first SEED --count 1 --file PATH   one case as a file

A network is simulated while it grows, so that neurons get thresholds that their potentials really reach, just reach or
just miss, and firing rates cover 0 to 1.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitspike.deploy import artifact, ir, reference
from bitspike.errors import LoweringError

from .corpus import native_checksums
from .graphs import random_precision

Values = NDArray[np.int64]

CHANNELS = (1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 127, 128, 129)
SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 9)
MAX_ELEMENTS = 2500  # of an edge at one time step
MAX_WEIGHTS = 12000  # of a node
MAX_PRODUCTS = 400_000  # of a node at one time step
STYLES = ("uniform", "uniform", "bell", "sparse", "max", "min", "signs", "zero")


@dataclass(frozen=True)
class Case:
    """A valid graph, samples uint8 (N, [T,] C, H, W), and the artifact with the reference's results as test vectors."""

    graph: ir.Graph
    samples: NDArray[np.uint8]
    data: bytes


def make_case(seed: int) -> Case:
    """The case of a seed, always the same."""
    rng = np.random.default_rng([seed, 73])
    while True:
        graph, samples = _Builder(rng).build()
        try:
            return Case(graph, samples, artifact.encode(graph, samples))
        except LoweringError:  # a potential beyond 32 bits: draw again
            continue


def describe(case: Case) -> Counter[str]:
    """Which features the case has, for counts of what was covered."""
    graph, found = case.graph, Counter[str]()
    found[f"T {graph.time_steps}"] += 1
    found[f"batch {len(case.samples)}"] += 1
    for kind in {type(n).__name__ for n in graph.nodes}:
        found[f"with {kind}"] += 1
    for bits, odd in {(n.bits, n.odd) for n in graph.nodes if isinstance(n, ir.Conv | ir.Linear)}:
        found[f"with {bits}-bit{' odd' if odd else ''} weights"] += 1
    return found


class _Builder:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.steps = int(rng.integers(1, 10))
        self.nodes: list[ir.Node] = []
        self.values: list[Values] = []  # edges (T, N, C, H, W)
        self.high: list[int] = []  # largest possible value of spikes and counts, 0 for other edges
        self.style = str(rng.choice(STYLES)) if rng.random() < 0.5 else ""  # of all weights, or drawn for each

    def build(self) -> tuple[ir.Graph, NDArray[np.uint8]]:
        rng = self.rng
        channels = int(rng.choice([1, 2, 3, 3, 4, 6, 17]))
        height = int(rng.choice(SIDES))
        width = height if rng.random() < 0.5 else int(rng.choice(SIDES))
        frames = int(rng.choice([1, self.steps]))
        zero = (
            rng.integers(0, 256, channels) if rng.random() < 0.7 else np.full(channels, int(rng.choice([0, 128, 255])))
        )
        node = ir.Input(channels, height, width, frames, tuple(int(z) for z in zero))
        shape = (int(rng.integers(1, 4)), *((frames,) if frames > 1 else ()), channels, height, width)
        samples = (
            rng.integers(0, 256, shape, np.uint8)
            if rng.random() < 0.9
            else rng.choice([0, 255], shape).astype(np.uint8)
        )
        self._append(node, np.array(reference._present(node, samples, self.steps)))
        self._neurons(self._project(0))
        for _ in range(int(rng.integers(0, 5))):
            self._grow()
        self._join_unused()
        self._readout()
        rates = [float(r) for r in rng.random(len(self.nodes))] if rng.random() < 0.3 else []
        if rng.random() < 0.5:  # as an exporter writes them
            spiking = [
                v.mean() if isinstance(n, ir.Lif) else np.nan for n, v in zip(self.nodes, self.values, strict=False)
            ]
            rates = [float(rate) for rate in [*spiking, np.nan]]
        return ir.Graph(self.steps, self.nodes, [], rates), samples

    # --- growth ---

    def _grow(self) -> None:
        rng, source = self.rng, self._pick()
        shape, spikes = self._shape(source), self._is_spikes(source)
        match rng.choice(
            ["conv", "conv", "conv", "linear", "or", "sum", "add", "residual", "shared", "direct", "attention"]
        ):
            case "conv":
                self._neurons(self._project(source))
            case "linear":
                self._neurons(self._linear(source, self._width(int(np.prod(shape)), 1)))
            case "or" if spikes:
                kernel = int(rng.integers(1, 4))
                padding = int(rng.integers(0, kernel))
                if min(shape[1:]) + 2 * padding >= kernel:
                    node = ir.OrPool(source, kernel, int(rng.integers(1, 4)), padding)
                    values = reference._windows(self.values[source], kernel, node.stride, padding).max((-2, -1))
                    self._append(node, values, 1)
            case "sum":
                kernel = int(rng.integers(1, min(3, *shape[1:]) + 1))
                if self.high[source] * kernel**2 <= 255:
                    node = ir.SumPool(source, kernel, int(rng.integers(1, 3)))
                    values = reference._windows(self.values[source], kernel, node.stride, 0).sum((-2, -1))
                    self._append(node, values, self.high[source] * kernel**2)
            case "add":
                other = int(rng.choice([i for i in self._readable() if self._shape(i) == shape]))
                self._add(source, other)
            case "residual":
                self._neurons(self._project(source, same=True), source)
            case "shared":
                current, other = self._project(source, same=True), self._project(source, same=True)
                self._neurons(current)
                self._neurons(current, other)
            case "attention" if spikes:
                self._attention(source)
            case "direct":
                self._neurons(source)

    def _project(self, source: int, same: bool = False) -> int:
        rng = self.rng
        channels, height, width = self._shape(source)
        kh = kw = int(rng.choice([1, 3, 3, 3]) if same else rng.choice([1, 1, 2, 3, 3, 3, 5]))
        if not same and rng.random() < 0.15:
            kw = int(rng.choice([1, 2, 3, 5]))
        stride, padding = (
            (1, kh // 2) if same else (int(rng.choice([1, 1, 1, 2, 3])), int(rng.integers(0, min(kh, kw))))
        )
        if height + 2 * padding < kh or width + 2 * padding < kw:
            kh = kw = 1
            padding = 0
        groups, out = 1, channels if same else self._width(channels * kh * kw, height * width)
        divisors = [g for g in range(2, channels + 1) if channels % g == 0]
        if divisors and rng.random() < 0.25:
            groups = channels if rng.random() < 0.4 else int(rng.choice(divisors))
            if not same:
                out = groups * int(rng.integers(1, max(2, 64 // groups + 1)))
        bits, odd = random_precision(rng)
        weight = self._weight((out, channels // groups, kh, kw), bits, odd)
        node = ir.Conv(source, weight, bits, stride, padding, groups, odd)
        return self._append(node, reference._conv(self.values[source], node))

    def _linear(self, source: int, out: int) -> int:
        bits, odd = random_precision(self.rng)
        values = reference._flat(self.values[source])
        weight = self._weight((out, values.shape[-1]), bits, odd)
        return self._append(ir.Linear(source, weight, bits, odd), (values @ weight.T.astype(np.int64))[..., None, None])

    def _attention(self, query: int) -> None:
        rng = self.rng
        channels = self._shape(query)[0]
        spikes = [i for i in self._readable() if self._is_spikes(i)]
        key = int(rng.choice([i for i in spikes if self._shape(i)[0] == channels]))
        if rng.random() < 0.4:
            key = self._neurons(self._project(key, same=True))
        value = int(rng.choice([i for i in spikes if self._shape(i)[1:] == self._shape(key)[1:]]))
        divisors = [h for h in range(1, channels + 1) if channels % h == 0 and self._shape(value)[0] % h == 0]
        node = ir.Attention(query, key, value, int(rng.choice(divisors)))
        values = reference._attention(*(self.values[i] for i in (query, key, value)), node.heads)
        current = self._append(node, values)
        self._neurons(current, *([query] if self._shape(current) == self._shape(query) and rng.random() < 0.3 else []))

    def _add(self, left: int, right: int) -> int:
        if self.high[left] + self.high[right] > 255:
            return left
        return self._append(
            ir.Add(left, right), self.values[left] + self.values[right], self.high[left] + self.high[right]
        )

    def _join_unused(self) -> None:
        """Every node must be read: linear layers turn loose ends into neurons of one shape, which are added."""
        used = {s for node in self.nodes for s in ir.sources(node)}
        loose = [i for i in range(len(self.nodes)) if i not in used]
        if len(loose) > 1:
            width = int(self.rng.integers(1, 20))
            total = -1
            for end in [self._neurons(self._linear(i, width)) for i in loose]:
                total = end if total < 0 else self._add(total, end)

    def _readout(self) -> None:
        rng, source = self.rng, len(self.nodes) - 1
        pool = bool(rng.random() < 0.5)
        features = self._shape(source)[0] if pool else int(np.prod(self._shape(source)))
        classes, (bits, odd) = int(rng.choice([1, 2, 3, 10, 17])), random_precision(rng)
        bias = rng.integers(-1000, 1001, classes).astype(np.int32)
        self.nodes.append(ir.Readout(source, self._weight((classes, features), bits, odd), bias, bits, pool, odd))

    # --- weights and neurons ---

    def _weight(self, shape: tuple[int, ...], bits: int, odd: bool) -> ir.Weight:
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

    def _neurons(self, *sources: int) -> int:
        rng, c = self.rng, self._shape(sources[0])[0]
        reach = int(rng.choice([1, 1, 1, 5, 300, 2**16], p=[0.3, 0.1, 0.1, 0.3, 0.15, 0.05]))
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
        threshold = self._threshold(np.sort(flat, 1) + bias[:, None])
        membrane_bits = int(rng.integers(2, 17))
        if rng.random() < 0.8:  # a membrane that resolves its threshold, more or less
            length = np.ceil(np.log2(np.abs(threshold) + 2))
            shift = np.clip(length - membrane_bits + rng.integers(0, 3), 0, 20)
        else:
            shift = rng.integers(0, int(rng.choice([1, 5, 13])), c)
        leak = int(rng.choice([0, 1, 1, 2, 3, 15]))
        parameters = (bias.astype(np.int32), threshold.astype(np.int32), shift.astype(np.uint8))
        node = ir.Lif(sources, multiplier, *parameters, membrane_bits, leak, bool(rng.random() < 0.4))
        return self._append(node, reference.lif(np.asarray(x), node), 1)

    def _threshold(self, potential: Values) -> Values:
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

    # --- bookkeeping ---

    def _width(self, inputs: int, pixels: int) -> int:
        """Output channels that keep a layer small."""
        most = min(MAX_WEIGHTS // inputs, MAX_ELEMENTS // pixels, MAX_PRODUCTS // (inputs * pixels))
        return int(self.rng.choice([m for m in CHANNELS if m <= max(most, 1)]))

    def _append(self, node: ir.Node, values: Values, high: int = 0) -> int:
        self.nodes.append(node)
        self.values.append(values)
        self.high.append(high)
        return len(self.nodes) - 1

    def _pick(self) -> int:
        readable = self._readable()
        return readable[-1] if self.rng.random() < 0.7 else int(self.rng.choice(readable))

    def _readable(self) -> list[int]:
        return [i for i, high in enumerate(self.high) if high]

    def _is_spikes(self, index: int) -> bool:
        return isinstance(self.nodes[index], ir.Lif | ir.OrPool)

    def _shape(self, index: int) -> tuple[int, int, int]:
        c, h, w = self.values[index].shape[2:]
        return (c, h, w)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=1, help="number of cases")
    parser.add_argument("--file", type=Path, help="write the first case to this file")
    options = parser.parse_args()
    if options.file:
        options.file.write_bytes(make_case(options.first).data)
        return
    covered = Counter[str]()
    for seed in range(options.first, options.first + options.count):
        with native_checksums():
            case = make_case(seed)
        covered.update(describe(case))
        sys.stdout.buffer.write(struct.pack("<QI", seed, len(case.data)) + case.data)
    sys.stdout.buffer.flush()
    print(json.dumps(dict(sorted(covered.items()))), file=sys.stderr)


if __name__ == "__main__":
    main()
