"""Latency of an artifact beside the same network on other runtimes, all in one run.

The runtimes take turns, see ``timing``. With one thread the clock is the CPU time of the process, with more it is wall
time.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import engine
from ..errors import ConfigError
from . import rivals
from .cases import Case, engine_cases, rival_cases, trained_case
from .timing import Timing, interleaved

__all__ = ["LatencyRow", "class_agreement", "fastest", "measure_latency", "torch_threads"]

Samples = NDArray[np.uint8]

AGREEMENT_SAMPLES = 128


@dataclass(frozen=True)
class LatencyRow:
    """Time of one call on ``batch`` samples, over ``rounds`` samples; ``dropped`` ones were disturbed.

    ratio: median over the median of the fastest engine level (how many times slower). setting: what made the runtime
    fastest, where several settings were tried. file_bytes: what has to be shipped, None where there is no file.
    agreement: share of ``compared`` samples with the engine's argmax.
    """

    name: str
    runtime: str
    batch: int
    threads: int
    clock: str
    rounds: int
    median_s: float
    minimum_s: float
    maximum_s: float
    dropped: int
    ratio: float
    setting: str
    file_bytes: int | None
    agreement: float
    compared: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def measure_latency(
    artifact: bytes | str | os.PathLike[str],
    samples: Samples,
    model: nn.Module | None = None,
    *,
    batch: int = 1,
    threads: int = 1,
    budget_s: float = 10.0,
    against: Sequence[str] | None = None,
) -> list[LatencyRow]:
    """Engine at every level this machine has, slowest level first, and the rivals (see ``rivals.RIVALS``).

    samples: u8 (N, C, H, W) or (N, T, C, H, W), real ones: they calibrate the int8 rivals and are compared. model: the
    trained network, timed beside "torch" when given. against: names of rivals; None takes those that are installed.
    """
    chosen = rivals.check_rivals(against)
    if batch < 1 or threads < 1 or not len(samples):
        raise ConfigError(f"batch {batch}, threads {threads} and {len(samples)} samples: all must be at least 1")
    data = artifact if isinstance(artifact, bytes) else Path(artifact).read_bytes()
    with tempfile.TemporaryDirectory() as folder, torch_threads(threads), torch.inference_mode():
        cases = engine_cases(data, threads)
        graph = engine.load(data).graph()
        cases += rival_cases(graph, samples, Path(folder), batch=batch, threads=threads, against=chosen)
        if model is not None and "torch" in chosen:
            cases.append(trained_case(model))
        rows = np.resize(samples[:batch], (batch, *samples.shape[1:]))
        times, _ = interleaved({c.key: c.prepare(rows) for c in cases}, budget_s=budget_s, threads=threads)
        cases = fastest(cases, times)
        agreement, compared = class_agreement(cases, samples, batch)
    best = min(times[c.key].median_s for c in cases if c.runtime == "bitspike")
    return [
        LatencyRow(
            name=c.name,
            runtime=c.runtime,
            batch=batch,
            threads=threads,
            clock="CPU time" if threads == 1 else "wall time",
            rounds=times[c.key].rounds,
            median_s=times[c.key].median_s,
            minimum_s=times[c.key].minimum_s,
            maximum_s=times[c.key].maximum_s,
            dropped=times[c.key].dropped,
            ratio=times[c.key].median_s / best,
            setting=c.setting,
            file_bytes=c.file_bytes,
            agreement=agreement[c.key],
            compared=compared,
        )
        for c in cases
    ]


def fastest(cases: Sequence[Case], times: dict[str, Timing]) -> list[Case]:
    """The case with the smallest median among those of one name, in the order of the names."""
    names = dict.fromkeys(c.name for c in cases)
    return [min((c for c in cases if c.name == name), key=lambda c: times[c.key].median_s) for name in names]


def class_agreement(cases: Sequence[Case], samples: Samples, batch: int) -> tuple[dict[str, float], int]:
    """Share of samples on which each case has the argmax of the last engine case, by key, and the number compared."""
    count = max(batch, min(len(samples), AGREEMENT_SAMPLES) // batch * batch)
    rows = np.resize(samples[:count], (count, *samples.shape[1:]))
    classes = {
        c.key: np.concatenate([c.logits(rows[i : i + batch]).argmax(-1) for i in range(0, count, batch)]) for c in cases
    }
    expected = classes[[c.key for c in cases if c.runtime == "bitspike"][-1]]
    return {key: float((found == expected).mean()) for key, found in classes.items()}, count


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """torch runs on ``threads`` threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
