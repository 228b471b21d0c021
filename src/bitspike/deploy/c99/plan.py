"""Where everything lies: which edges need memory, for how long, and what the emitted file takes of flash and RAM."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import LoweringError
from .. import ir
from ..check import Range, check

__all__ = ["Edge", "Footprint", "Plan", "make_plan", "sample_shape"]

MAX_CHUNK = 4
VALUE_BYTES = {"counts": 1, "stream16": 2, "stream32": 4}
LIST_ENTRIES = 256  # a list of spikes is counted once it has this many entries and the next pixel might not fit


@dataclass(frozen=True)
class Edge:
    """One stored edge: steps x height x width x ``pixel`` bytes at ``offset`` of the shared buffer.

    Spikes have one bit per channel (c % 8 of byte c / 8), counts one byte, values of a stream two or four, lowest first.
    """

    node: int
    kind: str
    shape: tuple[int, int, int]
    steps: int
    offset: int

    @property
    def pixel(self) -> int:
        channels = self.shape[0]
        return (channels + 7) // 8 if self.kind == "spikes" else channels * VALUE_BYTES[self.kind]

    @property
    def step(self) -> int:
        """Bytes of one time step."""
        return self.pixel * self.shape[1] * self.shape[2]

    @property
    def bytes(self) -> int:
        return self.steps * self.step


@dataclass(frozen=True)
class Footprint:
    """Bytes of flash and RAM that the constant tables and static buffers take; code comes on top, see docs/c99.md."""

    weights: int
    parameters: int
    self_test: int
    helpers: int
    edges: int
    membranes: int
    scratch: int

    @property
    def flash(self) -> int:
        return self.weights + self.parameters + self.self_test + self.helpers

    @property
    def ram(self) -> int:
        return self.edges + self.membranes + self.scratch

    def __str__(self) -> str:
        return (
            f"flash {self.flash} bytes (weights {self.weights}, parameters {self.parameters}, self-test "
            f"{self.self_test}, helper tables {self.helpers}) and code; RAM {self.ram} bytes (edges {self.edges}, "
            f"membranes {self.membranes}, scratch {self.scratch}) and stack"
        )


@dataclass(frozen=True)
class Plan:
    """A checked graph and where its edges lie. ``steps`` is T, or 1 where the network is stepped from outside."""

    graph: ir.Graph
    ranges: list[Range]
    shapes: list[tuple[int, int, int]]
    streaming: bool
    edges: dict[int, Edge]
    edge_bytes: int

    @property
    def steps(self) -> int:
        return 1 if self.streaming else self.graph.time_steps

    @property
    def chunk(self) -> int:
        """Steps that a pixel's neurons take in registers, one after the other; divides ``steps``."""
        return max(n for n in range(1, MAX_CHUNK + 1) if self.steps % n == 0)

    @property
    def keeps_membranes(self) -> bool:
        """Are membranes stored between chunks or calls?"""
        return self.streaming or self.chunk < self.steps

    def current_type(self, node: int) -> str:
        """What holds the values of this edge when neurons read them."""
        bounds = self.ranges[node]
        return "int16_t" if bounds.low.min() > -(2**15) and bounds.high.max() < 2**15 else "int32_t"

    def kind(self, node: int) -> str:
        """Kind of a node's edge; of a stream "stream16" or "stream32", by what its values need."""
        return stored_kind(self.ranges[node])

    def behind(self, node: int) -> tuple[int, ...]:
        """The stored edges that are read for the node's values: itself, or for a current what it is computed from."""
        if self.kind(node) != "current":
            return (node,)
        return tuple(edge for s in ir.sources(self.graph.nodes[node]) for edge in self.behind(s))

    def reads_input(self, node: int) -> bool:
        """Does the C function of a stored node read the sample?"""
        return any(0 in self.behind(s) for s in ir.sources(self.graph.nodes[node]))

    def repeats(self, node: int) -> bool:
        """Does a Lif that reads this node get the same current at every step, from a static sample?"""
        static = self.graph.input.frames == 1 and not self.streaming
        return static and ir.sources(self.graph.nodes[node]) == (0,)


def sample_shape(graph: ir.Graph) -> tuple[int, ...]:
    """(C, H, W), or (T, C, H, W) where the graph takes one frame per step."""
    node = graph.input
    frames = () if node.frames == 1 else (node.frames,)
    return (*frames, node.channels, node.height, node.width)


def make_plan(graph: ir.Graph, streaming: bool) -> Plan:
    """Check the graph and place its edges; LoweringError where it is not valid."""
    ranges = check(graph)
    shapes = ir.node_shapes(graph)
    steps = 1 if streaming else graph.time_steps
    wanted = []
    for index in range(1, len(graph.nodes) - 1):
        if ranges[index].kind != "current":
            wanted.append(Edge(index, stored_kind(ranges[index]), shapes[index], steps, 0))
    if streaming:
        _refuse_steps(graph)
    placed, total = _place(wanted, _last_uses(graph, ranges))
    return Plan(graph, ranges, shapes, streaming, placed, total)


def stored_kind(bounds: Range) -> str:
    """The kind of an edge, with the bits of a stream's values."""
    if bounds.kind != "stream":
        return bounds.kind
    return "stream16" if bounds.low.min() > -(2**15) and bounds.high.max() < 2**15 else "stream32"


def _refuse_steps(graph: ir.Graph) -> None:
    """What knows the number of a step is not stepped from outside."""
    for index, node in enumerate(graph.nodes):
        if isinstance(node, ir.Mix) or (isinstance(node, ir.Stream) and node.multiplier.shape[1] > 1):
            name = graph.names[index] if graph.names else f"node {index}"
            raise LoweringError(
                f"{name!r} ({type(node).__name__}) differs from step to step, accepted: streaming=False"
            )


def _last_uses(graph: ir.Graph, ranges: list[Range]) -> list[int]:
    """Per node the last node that runs and reads it; currents run with the Lif that reads them."""
    last = list(range(len(graph.nodes)))
    for index in reversed(range(len(graph.nodes))):
        for source in ir.sources(graph.nodes[index]):
            reader = last[index] if ranges[index].kind == "current" else index
            last[source] = max(last[source], reader)
    return last


def _place(edges: list[Edge], last: list[int]) -> tuple[dict[int, Edge], int]:
    """Largest edge first, each at the lowest offset where no edge that lives at the same time lies."""
    placed: list[Edge] = []
    for edge in sorted(edges, key=lambda e: (-e.bytes, e.node)):
        offset = 0
        alive = [p for p in placed if edge.node <= last[p.node] and p.node <= last[edge.node]]
        for other in sorted(alive, key=lambda p: p.offset):
            if offset + edge.bytes <= other.offset:
                break
            offset = max(offset, _aligned(other.offset + other.bytes))
        placed.append(Edge(edge.node, edge.kind, edge.shape, edge.steps, offset))
    total = max((_aligned(p.offset + p.bytes) for p in placed), default=0)
    return {p.node: p for p in placed}, total


def _aligned(size: int) -> int:
    return (size + 3) // 4 * 4
