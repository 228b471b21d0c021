"""Latency of an artifact beside the same network on other runtimes, all in one run.

Runtimes take turns in random order, so a change of the machine's speed meets all of them; each turn waits a moment,
makes one untimed call, then times as many calls as fill a few milliseconds. The median and the minimum over the turns
are reported. With one thread the clock is the CPU time of the calling thread, which other processes do not disturb; with
more it is wall time. The engine runs on one thread.
"""

from __future__ import annotations

import dataclasses
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
from .torch_network import torch_network

__all__ = ["LatencyRow", "measure_latency"]

Samples = NDArray[np.uint8]
Call = Callable[[Samples], NDArray[Any]]

SAMPLE_S = 0.004
SETTLE_S = 0.002
MIN_ROUNDS, MAX_ROUNDS = 5, 200
CALIBRATION_SAMPLES = 64
AGREEMENT_SAMPLES = 128


@dataclass(frozen=True)
class LatencyRow:
    """Time of one call on ``batch`` samples, over ``rounds`` turns.

    ratio: median over the median of the fastest engine level (how many times slower). file_bytes: what has to be
    shipped, None where there is no file. agreement: share of ``compared`` samples with the engine's argmax.
    """

    name: str
    runtime: str
    batch: int
    threads: int
    clock: str
    rounds: int
    median_s: float
    minimum_s: float
    ratio: float
    file_bytes: int | None
    agreement: float
    compared: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _Case:
    name: str
    runtime: str
    file_bytes: int | None
    prepare: Callable[[Samples], Callable[[], Any]]  # a batch, as it arrives -> the call that is timed
    logits: Call  # one batch of u8 samples -> (N, classes)


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
    """Engine at every level this machine has, torch eager and ONNX Runtime (fp32, static int8), slowest level first.

    samples: u8 (N, C, H, W) or (N, T, C, H, W), real ones: they calibrate the int8 rival and are compared. model: the
    trained network, timed too when given. against: some of "torch", "ort"; None takes those that are installed.
    """
    chosen = rivals.available_rivals() if against is None else tuple(against)
    unknown = sorted(set(chosen) - set(rivals.RIVALS))
    if unknown:
        raise ConfigError(f"against has {', '.join(unknown)}, accepted: {', '.join(rivals.RIVALS)}")
    if batch < 1 or threads < 1 or not len(samples):
        raise ConfigError(f"batch {batch}, threads {threads} and {len(samples)} samples: all must be at least 1")
    data = artifact if isinstance(artifact, bytes) else Path(artifact).read_bytes()
    with tempfile.TemporaryDirectory() as folder, _torch_threads(threads), torch.inference_mode():
        cases = _engine_cases(data)
        if "torch" in chosen:
            cases += _torch_cases(data, model)
        if "ort" in chosen:
            cases += _onnx_cases(data, samples, Path(folder), batch, threads)
        rows = np.resize(samples[:batch], (batch, *samples.shape[1:]))
        clock = "CPU time" if threads == 1 else "wall time"
        times = _interleaved({c.name: c.prepare(rows) for c in cases}, budget_s, threads)
        agreement, compared = _agreement(cases, samples, batch)
    best = min(statistics.median(times[c.name]) for c in cases if c.runtime == "bitspike")
    return [
        LatencyRow(
            name=c.name,
            runtime=c.runtime,
            batch=batch,
            threads=1 if c.runtime == "bitspike" else threads,
            clock=clock,
            rounds=len(times[c.name]),
            median_s=statistics.median(times[c.name]),
            minimum_s=min(times[c.name]),
            ratio=statistics.median(times[c.name]) / best,
            file_bytes=c.file_bytes,
            agreement=agreement[c.name],
            compared=compared,
        )
        for c in cases
    ]


def _engine_cases(data: bytes) -> list[_Case]:
    return [_engine_case(engine.load(data, level=level), len(data)) for level in engine.levels()]


def _engine_case(network: engine.Network, size: int) -> _Case:
    return _Case(f"bitspike, {network.level}", "bitspike", size, lambda x: lambda: network.run(x), network.run)


def _torch_cases(data: bytes, model: nn.Module | None) -> list[_Case]:
    same = torch_network(engine.load(data).graph())
    cases = [_float_case("torch fp32", "torch", None, lambda x: same(torch.from_numpy(x)).numpy())]
    if model is not None:
        trained = rivals.plain_copy(model).cpu()

        def mean_logits(pixels: NDArray[np.float32]) -> NDArray[Any]:
            x = torch.from_numpy(pixels)
            return trained(x.transpose(0, 1) if x.dim() == 5 else x).mean(0).numpy()

        cases.append(_float_case("torch fp32, as trained", "torch", None, mean_logits))
    return cases


def _onnx_cases(data: bytes, samples: Samples, folder: Path, batch: int, threads: int) -> list[_Case]:
    files = {"ONNX Runtime fp32": folder / "fp32.onnx", "ONNX Runtime int8": folder / "int8.onnx"}
    exact, quantized = files.values()
    rivals.onnx_float(engine.load(data).graph(), exact, batch)
    rivals.onnx_int8(str(exact), quantized, samples[:CALIBRATION_SAMPLES], batch)
    return [
        _float_case(name, "onnxruntime", path.stat().st_size, rivals.onnx_session(path, threads))
        for name, path in files.items()
    ]


def _float_case(
    name: str, runtime: str, size: int | None, call: Callable[[NDArray[np.float32]], NDArray[Any]]
) -> _Case:
    """A rival that takes float pixels; the conversion from bytes is not timed."""

    def prepare(batch: Samples) -> Callable[[], Any]:
        pixels = batch.astype(np.float32)
        return lambda: call(pixels)

    return _Case(name, runtime, size, prepare, lambda x: call(x.astype(np.float32)))


def _interleaved(calls: dict[str, Callable[[], Any]], budget_s: float, threads: int) -> dict[str, list[float]]:
    """Seconds per call of every turn, by name."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(SAMPLE_S / max(time.perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls), random.Random(0).shuffle
    began = time.perf_counter()
    for done in range(MAX_ROUNDS):
        if done >= MIN_ROUNDS and time.perf_counter() - began > budget_s:
            break
        shuffle(order)
        for name in order:
            call, count = calls[name], repeats[name]
            time.sleep(SETTLE_S)  # lets the previous runtime's idle threads fall asleep
            call()
            start = clock()
            for _ in range(count):
                call()
            times[name].append((clock() - start) / count)
    return times


def _agreement(cases: list[_Case], samples: Samples, batch: int) -> tuple[dict[str, float], int]:
    """Share of samples on which each case has the argmax of the last engine level, and the number compared."""
    count = max(batch, min(len(samples), AGREEMENT_SAMPLES) // batch * batch)
    rows = np.resize(samples[:count], (count, *samples.shape[1:]))
    classes = {
        c.name: np.concatenate([c.logits(rows[i : i + batch]).argmax(-1) for i in range(0, count, batch)])
        for c in cases
    }
    expected = classes[[c.name for c in cases if c.runtime == "bitspike"][-1]]
    return {name: float((found == expected).mean()) for name, found in classes.items()}, count


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
