"""Random valid graphs of every node type, for tests that compare the engine with the reference."""

from __future__ import annotations

import numpy as np

from bitspike.deploy import ir
from bitspike.deploy.check import check
from bitspike.errors import LoweringError

Rng = np.random.Generator
Shape = tuple[int, int, int]


def random_graph(rng: Rng, *, extreme: bool = False, max_nodes: int = 9) -> ir.Graph:
    """A valid graph of up to ``max_nodes`` random inner nodes; ``extreme`` makes all weights +max or -max."""
    while True:
        graph = _Builder(rng, extreme).build(int(rng.integers(1, max_nodes + 1)))
        try:
            check(graph)
        except LoweringError:  # counts beyond 255, potentials beyond 32 bits: draw again
            continue
        return graph


def random_samples(rng: Rng, graph: ir.Graph, count: int) -> np.ndarray:
    """Samples uint8 (N, [T,] C, H, W) for the graph."""
    node = graph.input
    frames = () if node.frames == 1 else (node.frames,)
    return rng.integers(0, 256, (count, *frames, node.channels, node.height, node.width), np.uint8)


def random_weight(
    rng: Rng, shape: tuple[int, ...], bits: int, *, extreme: bool = False, odd: bool = False
) -> ir.Weight:
    """Symmetric ``bits``-bit weights, or of odd levels; ``extreme``: only the largest and smallest, rows often uniform."""
    odd = odd or bits == 1
    top = 2**bits - 1 if odd else 2 ** (bits - 1) - 1
    if extreme:
        signs = rng.choice([-1, 1], (shape[0], *(1 for _ in shape[1:]))) * rng.choice([-1, 1, 1, 1, 1], shape)
        return (signs * top).astype(ir.weight_type(bits, odd))
    values = 2 * rng.integers(0, top + 1, shape) - top if odd else rng.integers(-top, top + 1, shape)
    return values.astype(ir.weight_type(bits, odd))


def random_precision(rng: Rng) -> tuple[int, bool]:
    """(bits, odd) of a weight, in every combination."""
    bits = int(rng.integers(1, 9))
    return bits, bits > 1 and bool(rng.random() < 0.4)


class _Builder:
    def __init__(self, rng: Rng, extreme: bool) -> None:
        self.rng, self.extreme = rng, extreme
        self.steps = int(rng.integers(1, 6))
        self.nodes: list[ir.Node] = []

    def build(self, inner: int) -> ir.Graph:
        rng = self.rng
        side = int(rng.choice([1, 2, 3, 5, 8]))
        channels, height, width = int(rng.integers(1, 5)), side, max(1, side + int(rng.integers(-1, 2)))
        frames = int(rng.choice([1, self.steps]))
        zero = tuple(int(z) for z in rng.integers(0, 256, channels))
        self.nodes = [ir.Input(channels, height, width, frames, zero if rng.random() < 0.7 else (0,) * channels)]
        self._lif_after(self._project(0))
        for _ in range(inner):
            self._grow()
        self._join_unused()
        last = len(self.nodes) - 1
        shape = self._shape(last)
        pool = bool(rng.random() < 0.5)
        classes, (bits, odd) = int(rng.integers(1, 12)), random_precision(rng)
        features = shape[0] if pool else int(np.prod(shape))
        weight = random_weight(rng, (classes, features), bits, extreme=self.extreme, odd=odd)
        self.nodes.append(ir.Readout(last, weight, self._ints(classes, 1000), bits, pool, odd))
        names = [f"{type(n).__name__.lower()}{i}" for i, n in enumerate(self.nodes)] if rng.random() < 0.8 else []
        rates = [float(r) for r in rng.random(len(self.nodes)).astype(np.float32)] if rng.random() < 0.5 else []
        return ir.Graph(self.steps, self.nodes, names, rates, {"seed": "ä"} if rng.random() < 0.5 else {})

    def _grow(self) -> None:
        rng = self.rng
        source = self._pick()
        shape = self._shape(source)
        choice = rng.choice(["conv", "conv", "linear", "or", "sum", "add", "residual", "shared", "direct", "attention"])
        if choice == "conv":
            self._lif_after(self._project(source))
        elif choice == "linear":
            bits, odd = random_precision(rng)
            sizes = (int(rng.integers(1, 40)), int(np.prod(shape)))
            weight = random_weight(rng, sizes, bits, extreme=self.extreme, odd=odd)
            self._lif_after(self._append(ir.Linear(source, weight, bits, odd)))
        elif choice == "or" and self._is_spikes(source):
            kernel = int(rng.integers(1, 4))
            padding = int(rng.integers(0, kernel))
            if min(shape[1:]) + 2 * padding >= kernel:
                self._append(ir.OrPool(source, kernel, int(rng.integers(1, 4)), padding))
        elif choice == "sum":
            kernel = int(rng.integers(1, min(3, *shape[1:]) + 1))
            self._append(ir.SumPool(source, kernel, int(rng.integers(1, 3))))
        elif choice == "add":
            others = [i for i in self._readable() if self._shape(i) == shape]
            self._append(ir.Add(source, int(rng.choice(others))))
        elif choice == "residual":  # the same shape again, with a shortcut into the neurons
            self._lif_after(self._project(source, same=True), source)
        elif choice == "shared":  # one current read by two Lifs, and a Lif of two currents
            current, other = self._project(source, same=True), self._project(source, same=True)
            self._lif_after(current)
            self._lif_after(current, other)
        elif choice == "attention" and self._is_spikes(source):
            self._attention(source)
        elif choice == "direct":  # spikes or counts straight into neurons
            self._lif_after(source)

    def _project(self, source: int, same: bool = False) -> int:
        rng = self.rng
        channels, height, width = self._shape(source)
        kh, kw, stride = (int(rng.choice([1, 2, 3, 3, 5])) for _ in range(3))
        padding = int(rng.integers(0, min(kh, kw)))
        if same:
            kh = kw = int(rng.choice([1, 3]))
            stride, padding = 1, kh // 2
        elif min(height, width) + 2 * padding < max(kh, kw):
            kh = kw = 1
            padding = 0
        (bits, odd), out = random_precision(rng), int(rng.choice([1, 3, 7, 8, 16, 17, 24, 33]))
        groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        if same:
            groups, out = (groups if rng.random() < 0.3 else 1), channels
        elif rng.random() < 0.7:
            groups = 1
        elif rng.random() < 0.5:
            out = channels
        out = out if groups == 1 or out == channels else groups * int(rng.integers(1, 4))
        weight = random_weight(rng, (out, channels // groups, kh, kw), bits, extreme=self.extreme, odd=odd)
        return self._append(ir.Conv(source, weight, bits, stride, padding, groups, odd))

    def _attention(self, query: int) -> None:
        """Query, key and value may be one edge, or edges of other sizes and channel counts."""
        rng = self.rng
        channels = self._shape(query)[0]
        spikes = [i for i in self._readable() if self._is_spikes(i)]
        key = int(rng.choice([i for i in spikes if self._shape(i)[0] == channels]))
        if rng.random() < 0.3:
            key = self._lif_after(self._project(key, same=True))
        value = int(rng.choice([i for i in spikes if self._shape(i)[1:] == self._shape(key)[1:]]))
        if rng.random() < 0.5:
            out = channels * int(rng.integers(1, 4)) if rng.random() < 0.7 else int(rng.integers(1, 40))
            weight = random_weight(rng, (out, self._shape(key)[0], 1, 1), 2, extreme=self.extreme)
            value = self._lif_after(self._append(ir.Conv(key, weight, 2)))
        divisors = [h for h in range(1, channels + 1) if channels % h == 0 and self._shape(value)[0] % h == 0]
        current = self._append(ir.Attention(query, key, value, int(rng.choice(divisors))))
        if self._shape(current) == self._shape(query) and rng.random() < 0.3:
            self._lif_after(current, query)
        else:
            self._lif_after(current)

    def _lif_after(self, *sources: int) -> int:
        rng = self.rng
        c = self._shape(sources[0])[0]
        scale = int(rng.choice([3, 50, 2000]))
        multiplier = np.ones((len(sources), c), np.int32)
        if rng.random() < 0.6:
            multiplier = rng.integers(-5, 6, (len(sources), c)).astype(np.int32)
        shift = rng.integers(0, int(rng.choice([1, 4, 9])), c).astype(np.uint8)
        parameters = (multiplier, self._ints(c, scale), self._ints(c, scale), shift)
        leak = int(rng.choice([0, 1, 2, 3, 15]))
        return self._append(ir.Lif(sources, *parameters, int(rng.integers(2, 17)), leak, bool(rng.random() < 0.5)))

    def _ints(self, count: int, scale: int) -> np.ndarray:
        if self.rng.random() < 0.3:
            return np.full(count, self.rng.integers(-scale, scale + 1), np.int32)
        return self.rng.integers(-scale, scale + 1, count).astype(np.int32)

    def _join_unused(self) -> None:
        """Every node must be read: linear layers turn loose ends into neurons of one shape, which are added."""
        used = {s for node in self.nodes for s in ir.sources(node)}
        loose = [i for i in range(len(self.nodes)) if i not in used]
        if len(loose) == 1:
            return
        ends = []
        for i in loose:
            features = int(np.prod(self._shape(i)))
            weight = random_weight(self.rng, (6, features), 2, extreme=self.extreme)
            ends.append(self._lif_after(self._append(ir.Linear(i, weight, 2))))
        total = ends[0]
        for end in ends[1:]:
            total = self._append(ir.Add(total, end))

    def _append(self, node: ir.Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _pick(self) -> int:
        readable = self._readable()
        return readable[-1] if self.rng.random() < 0.6 else int(self.rng.choice(readable))

    def _readable(self) -> list[int]:
        """Nodes with spikes or counts."""
        return [i for i, n in enumerate(self.nodes) if isinstance(n, ir.Lif | ir.OrPool | ir.SumPool | ir.Add)]

    def _is_spikes(self, index: int) -> bool:
        return isinstance(self.nodes[index], ir.Lif | ir.OrPool)

    def _shape(self, index: int) -> Shape:
        return ir.node_shapes(ir.Graph(self.steps, self.nodes))[index]
