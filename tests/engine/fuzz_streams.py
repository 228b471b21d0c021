"""Growth of the fuzzer's networks by streams, products of spike matrices, masks and what goes with them."""

from __future__ import annotations

from itertools import product

import numpy as np

from bitspike.deploy import ir
from bitspike.deploy.reference_stream import run_stream_node

from .fuzz_builder import MAX_ELEMENTS, Builder

NUMBERS = ("current", "stream", "spikes", "counts")
GROWTHS = ("stream", "stream", "pooled", "matmul", "matmul", "reduce", "gate", "concat", "mix", "product")


class StreamBuilder(Builder):
    """What adds nodes of :mod:`bitspike.deploy.ir_stream`."""

    def grow_stream(self, growth: str) -> None:
        """One of GROWTHS, where what is there allows it."""
        match growth:
            case "stream":
                self.read(self.stream(*self._alike()))
            case "pooled":
                self.read(self._pooled(self.pick("stream") if self.of("stream") else self.stream(*self._alike())))
            case "matmul":
                self._matmul()
            case "reduce":
                self.read(self._reduced(self.pick("spikes")))
            case "gate":
                self._gate(self.pick("spikes"))
            case "concat":
                self._concat()
            case "mix":
                self._mix(self.pick(*NUMBERS))
            case "product":
                self._product(self.pick("spikes"))

    def read(self, source: int) -> int:
        """Neurons of a current or stream, now and then with a second source; or leave it to later nodes."""
        if self.rng.random() < 0.25:
            return source
        others = [i for i in self.of(*NUMBERS) if self.shape(i) == self.shape(source)]
        return self.neurons(source, *([int(self.rng.choice(others))] if self.rng.random() < 0.3 else []))

    def stream(self, *sources: int) -> int:
        rng, c, bits = self.rng, self.shape(sources[0])[0], int(self.rng.integers(2, 25))
        steps = self.steps if rng.random() < 0.3 else 1
        budget = 1.4 * 2**30 / len(sources)  # of each product, half for bias and rounding left
        shape = (len(sources), steps, c)
        multiplier = np.ones(shape, np.int64)
        for row, source in zip(multiplier, sources, strict=True):
            most = int(min(budget / self.reach[source], rng.choice([1, 3, 100, 2**15, 2**28])))
            if most > 1 and rng.random() < 0.8:
                row[:] = rng.integers(-most, most + 1, row.shape)
        factors = multiplier[:, :, None, :, None, None]
        value = np.asarray(sum(m * self.values[s] for m, s in zip(factors, sources, strict=True)))
        largest = int(np.abs(value).max())
        bias = rng.integers(-(min(largest, 2**26) + 1), min(largest, 2**26) + 2, c) if rng.random() < 0.6 else 0
        wanted = int(largest).bit_length() + 1 - bits + int(rng.integers(-2, 3))  # now and then some values are clipped
        shift = np.full(c, wanted) + (rng.integers(-1, 2, c) if rng.random() < 0.5 else 0)
        node = ir.Stream(
            sources,
            multiplier.astype(np.int32),
            np.broadcast_to(bias, c).astype(np.int32),
            np.clip(shift, 0, 30).astype(np.uint8),
            bits,
        )
        return self._append(node, "stream", 2 ** (bits - 1) - 1)

    def _append(self, node: ir.StreamNode, kind: str, reach: int) -> int:
        return self.append(node, run_stream_node(node, self.values), kind, reach)

    def _alike(self) -> list[int]:
        """One to four edges of one shape."""
        first = self.pick("input", *NUMBERS)
        alike = [i for i in self.of("input", *NUMBERS) if self.shape(i) == self.shape(first)]
        return [first, *(int(i) for i in self.rng.choice(alike, int(self.rng.choice([0, 1, 1, 2, 3]))))]

    def _pooled(self, source: int) -> int:
        rng, (_, height, width) = self.rng, self.shape(source)
        kernel = int(rng.integers(1, min(3, height, width) + 1))
        match rng.choice(["max", "max", "sum", "tokens"]):
            case "max":
                kernel = int(rng.integers(1, 4))
                padding = int(rng.integers(0, kernel))
                if min(height, width) + 2 * padding < kernel:
                    kernel, padding = 1, 0
                node = ir.MaxPool(source, kernel, int(rng.integers(1, 4)), padding)
                return self._append(node, "stream", self.reach[source])
            case "sum":
                return self.sum_pool(source, kernel, int(rng.integers(1, 3)))
            case _:
                return self._append(ir.Reduce(source, 1, "tokens"), "current", self.reach[source] * height * width)

    def _matmul(self) -> None:
        """A product of any two edges whose sizes agree; one more edge makes that likelier."""
        rng, spikes = self.rng, self.of("spikes")
        if rng.random() < 0.4:
            spikes.append(self.project(self.pick("spikes"), same=True))
            spikes[-1] = self.neurons(spikes[-1])
        found = []
        for left, right in product(spikes[-6:], repeat=2):
            (a, h, w), (b, y, x) = self.shape(left), self.shape(right)
            for heads in (g for g in range(1, min(a, b) + 1) if a % g == 0 and b % g == 0):
                sizes = {
                    "none": (h * w == b // heads, a * y * x),
                    "left": (a == b, heads * h * w * y * x),
                    "right": (h * w == y * x, a * b // heads),
                }
                found += [(left, right, heads, t) for t, (ok, size) in sizes.items() if ok and size <= MAX_ELEMENTS]
        found.sort(key=lambda each: each[3] != "none")  # which is rare
        if not found:
            return
        first = len([each for each in found if each[3] == "none"])
        count = first if first and rng.random() < 0.4 else len(found)
        left, right, heads, transpose = found[int(rng.integers(count))]
        (a, h, w) = self.shape(left)
        length = a // heads if transpose == "left" else h * w
        self.read(self._append(ir.MatMul(left, right, heads, transpose), "current", length))

    def _reduced(self, source: int, axis: str = "") -> int:
        c, height, width = self.shape(source)
        axis = axis or str(self.rng.choice(["channels", "tokens", "both"]))
        heads = 1 if axis == "tokens" else int(self.rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        reach = {"channels": c // heads, "tokens": height * width, "both": c // heads * height * width}[axis]
        return self._append(ir.Reduce(source, heads, axis), "current", reach)

    def _gate(self, source: int) -> None:
        c, height, width = self.shape(source)
        if self.rng.random() < 0.5:
            self.neurons(self._reduced(source))
        gates = [
            i for i in self.of("spikes") if c % self.shape(i)[0] == 0 and self.shape(i)[1:] in ((height, width), (1, 1))
        ]
        self._append(
            ir.Gate(source, gates[-1] if self.rng.random() < 0.6 else int(self.rng.choice(gates))), "spikes", 1
        )

    def _concat(self) -> None:
        kind = "stream" if self.of("stream") and self.rng.random() < 0.5 else "spikes"
        first = self.pick(kind)
        alike = [i for i in self.of(kind) if self.shape(i)[1:] == self.shape(first)[1:]]
        sources = (first, *(int(i) for i in self.rng.choice(alike, int(self.rng.integers(1, 4)))))
        if sum(self.values[i][0, 0].size for i in sources) <= MAX_ELEMENTS:
            self._append(ir.Concat(sources), kind, max(self.reach[i] for i in sources))

    def _mix(self, source: int) -> None:
        rng, steps = self.rng, self.steps
        most = min(2**30 // (steps * self.reach[source]), int(rng.choice([2, 9, 1000, 2**20])))
        weight = np.tril(rng.integers(-most, most + 1, (steps, steps)))
        if rng.random() < 0.3:
            weight = np.diag(np.diag(weight))
        mixed = np.tensordot(weight, self.values[source], 1).reshape(steps, -1)
        threshold = self.threshold(np.sort(mixed, 1))
        self._append(ir.Mix(source, weight.astype(np.int32), threshold.astype(np.int32)), "spikes", 1)

    def _product(self, source: int) -> None:
        left = self._reduced(source, "channels")
        rights = [
            i
            for i in self.of("current", "counts", "spikes")
            if self.shape(i) == (self.shape(left)[0], 1, 1) and self.reach[i] * self.reach[left] < 2**31
        ]
        if not rights or self.rng.random() < 0.5:
            heads = self.shape(left)[0]
            c, height, width = self.shape(source)
            rights = [self._append(ir.Reduce(source, heads, "both"), "current", c // heads * height * width)]
        right = int(self.rng.choice(rights))
        if self.rng.random() < 0.3:
            left = self.linear(source, self.shape(right)[0])
            if self.reach[left] * self.reach[right] >= 2**31:
                return
        self.read(self._append(ir.Product(left, right), "current", self.reach[left] * self.reach[right]))
