"""What the sections of ``engine.py`` share: settings, a checked network, a group of calls that take turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitspike import _native, engine, measure
from bitspike.deploy import artifact, ir
from bitspike.measure.cases import engine_case
from bitspike.measure.timing import interleaved

CHECKED = 4  # samples that the reference also runs


@dataclass(frozen=True)
class Settings:
    """bits: of the networks' weights. against: rivals. seconds: time of one group of interleaved calls."""

    bits: tuple[int, ...]
    batches: tuple[int, ...]
    against: set[str]
    seconds: float
    quick: bool


@dataclass
class Loaded:
    """A network ready to be timed; ``agreement`` counts compared and differing spikes and logits."""

    graph: ir.Graph
    data: bytes
    network: engine.Network
    agreement: dict[str, int]

    def call(self, samples: NDArray[np.uint8], threads: int = 1) -> Callable[[], Any]:
        return engine_case(self.network, "", len(self.data), threads).prepare(samples)


def ours(bits: int) -> str:
    return f"bitspike {bits}-bit"


def loaded(graph: ir.Graph, samples: NDArray[np.uint8]) -> Loaded:
    """The engine at its fastest level, compared with the reference at every level on the first samples; in batches of
    any size its logits must also be those of one sample at a time."""
    data = artifact.encode(graph)
    rows = measure.agreement_table(data, samples[:CHECKED])
    net = engine.load(data)
    single = np.concatenate([net.run(samples[i : i + 1]) for i in range(len(samples))])
    differing = sum(row.differing_spikes + row.differing_logits for row in rows)
    differing += int((net.run(samples) != single).sum())
    compared = sum(row.spikes + row.logits for row in rows) + single.size
    return Loaded(graph, data, net, {"compared": compared, "differing": differing})


def timed(
    calls: Mapping[str, Callable[[], Any]],
    settings: Settings,
    *,
    threads: int = 1,
    share: float = 1.0,
    gauges: Mapping[str, Callable[[], float]] | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Timings as plain values by key, and the readings of the gauges."""
    rounds = 3 if settings.quick else 7
    budget = settings.seconds * share
    times, readings = interleaved(calls, budget_s=budget, threads=threads, min_rounds=rounds, gauges=gauges)
    return {key: dataclasses.asdict(timing) for key, timing in times.items()}, readings


def peaks() -> dict[str, Callable[[], float]]:
    """Multiply-accumulates per second of register-only loops of the fastest level's instruction mixes."""
    level = engine.levels()[-1]
    return {mix: lambda mix=mix: _native.peak(level, mix) for mix in _native.peak_mixes(level)}  # type: ignore[misc]


def difference(times: Mapping[str, Mapping[str, Any]], key: str) -> float:
    return float(times[key]["median_s"] - times["without"]["median_s"])


def macs(graph: ir.Graph, steps: int | None = None) -> int:
    """Dense multiply-accumulates of one sample; the layer that reads a static input runs once."""
    shapes = ir.node_shapes(graph)
    count = 0
    for node, shape in zip(graph.nodes, shapes, strict=True):
        if isinstance(node, ir.Conv):
            once = node.source == 0 and graph.input.frames == 1
            count += node.weight.size * shape[1] * shape[2] * (1 if once else steps or graph.time_steps)
    return count + graph.readout.weight.size


def total(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    parts = list(parts)
    return {key: sum(part[key] for part in parts) for key in ("compared", "differing")}
