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

from .checksums import native_checksums
from .fuzz_streams import GROWTHS, StreamBuilder
from .graphs import random_precision

SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 9)


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


class _Builder(StreamBuilder):
    """Nodes of every kind."""

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
        self.append(node, np.array(reference._present(node, samples, self.steps)), "input", 255)
        self.neurons(self.project(0))
        for _ in range(int(rng.integers(0, 5))):
            self._grow()
        self._join_unused()
        self._readout()
        rates = [float(r) for r in rng.random(len(self.nodes))] if rng.random() < 0.3 else []
        if rng.random() < 0.5:  # as an exporter writes them
            spiking = [
                v.mean() if isinstance(n, ir.Lif | ir.Mix) else np.nan
                for n, v in zip(self.nodes, self.values, strict=False)
            ]
            rates = [float(rate) for rate in [*spiking, np.nan]]
        return ir.Graph(self.steps, self.nodes, [], rates), samples

    # --- growth ---

    def _grow(self) -> None:
        rng = self.rng
        if rng.random() < 0.4:
            self.grow_stream(str(rng.choice(GROWTHS)))
            return
        source = self.pick("spikes", "counts")
        shape, spikes = self.shape(source), self.kinds[source] == "spikes"
        match rng.choice(
            ["conv", "conv", "conv", "linear", "or", "sum", "add", "residual", "shared", "direct", "attention"]
        ):
            case "conv":
                self.neurons(self.project(source))
            case "linear":
                self.neurons(self.linear(source, self.width(int(np.prod(shape)), 1)))
            case "or" if spikes:
                kernel = int(rng.integers(1, 4))
                padding = int(rng.integers(0, kernel))
                if min(shape[1:]) + 2 * padding >= kernel:
                    node = ir.OrPool(source, kernel, int(rng.integers(1, 4)), padding)
                    values = reference._windows(self.values[source], kernel, node.stride, padding).max((-2, -1))
                    self.append(node, values, "spikes", 1)
            case "sum":
                kernel = int(rng.integers(1, min(3, *shape[1:]) + 1))
                if self.reach[source] * kernel**2 <= 255:
                    self.sum_pool(source, kernel, int(rng.integers(1, 3)))
            case "add":
                other = int(rng.choice([i for i in self.of("spikes", "counts") if self.shape(i) == shape]))
                self._add(source, other)
            case "residual":
                self.neurons(self.project(source, same=True), source)
            case "shared":
                current, other = self.project(source, same=True), self.project(source, same=True)
                self.neurons(current)
                self.neurons(current, other)
            case "attention" if spikes:
                self._attention(source)
            case "direct":
                self.neurons(source)

    def _attention(self, query: int) -> None:
        rng = self.rng
        channels = self.shape(query)[0]
        spikes = self.of("spikes")
        key = int(rng.choice([i for i in spikes if self.shape(i)[0] == channels]))
        if rng.random() < 0.4:
            key = self.neurons(self.project(key, same=True))
        value = int(rng.choice([i for i in spikes if self.shape(i)[1:] == self.shape(key)[1:]]))
        divisors = [h for h in range(1, channels + 1) if channels % h == 0 and self.shape(value)[0] % h == 0]
        node = ir.Attention(query, key, value, int(rng.choice(divisors)))
        values = reference._attention(*(self.values[i] for i in (query, key, value)), node.heads)
        _, height, width = self.shape(key)
        current = self.append(node, values, "current", channels // node.heads * height * width)
        self.neurons(current, *([query] if self.shape(current) == self.shape(query) and rng.random() < 0.3 else []))

    def _add(self, left: int, right: int) -> int:
        if self.reach[left] + self.reach[right] > 255:
            return left
        values = self.values[left] + self.values[right]
        return self.append(ir.Add(left, right), values, "counts", self.reach[left] + self.reach[right])

    def _join_unused(self) -> None:
        """Every node must be read: linear layers turn loose ends into neurons of one shape, which are added."""
        for i in self.loose():
            if self.kinds[i] == "current" or (self.kinds[i] == "stream" and len(self.loose()) > 1):
                self.neurons(i)
        loose = self.loose()
        if len(loose) > 1:
            width = int(self.rng.integers(1, 20))
            total = -1
            for end in [self.neurons(self.linear(i, width)) for i in loose]:
                total = end if total < 0 else self._add(total, end)

    def _readout(self) -> None:
        rng, source = self.rng, len(self.nodes) - 1
        pool = bool(rng.random() < 0.5)
        features = self.shape(source)[0] if pool else int(np.prod(self.shape(source)))
        classes, (bits, odd) = int(rng.choice([1, 2, 3, 10, 17])), random_precision(rng)
        bias = rng.integers(-1000, 1001, classes).astype(np.int32)
        self.nodes.append(ir.Readout(source, self.weight((classes, features), bits, odd), bias, bits, pool, odd))


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
