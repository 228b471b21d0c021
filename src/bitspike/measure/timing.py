"""Times of several calls that take turns, so that a slow phase of the machine meets all of them.

One thread is measured by the CPU time of this process, which other processes do not stretch and in which no other thread
can hide work. More threads are measured by wall time, in short samples; one in which the system took a core away (an
involuntary context switch) is dropped.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Timing", "interleaved"]

TURN_S = 0.004
WALL_SAMPLE_S = 0.0005  # shorter than a scheduler's slice, so that some samples escape
SETTLE_S = 0.002
MIN_ROUNDS, MAX_ROUNDS = 5, 200
MIN_CLEAN = 3
FIRST_CALLS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of one call over the ``rounds`` samples that count; ``dropped`` ones were disturbed.

    Where fewer than three samples were undisturbed, the fastest quarter of all counts, and ``disturbed`` is true.
    """

    median_s: float
    minimum_s: float
    maximum_s: float
    rounds: int
    dropped: int
    disturbed: bool


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    *,
    budget_s: float,
    threads: int = 1,
    min_rounds: int = MIN_ROUNDS,
    gauges: Mapping[str, Callable[[], float]] | None = None,
) -> tuple[dict[str, Timing], dict[str, float]]:
    """Time ``calls`` in rounds of random order until ``budget_s`` is spent; at least ``min_rounds`` rounds.

    Each turn waits two milliseconds, makes one untimed call, then times as many calls as fill four milliseconds: as one
    sample, or with several threads as samples of at least half a millisecond, each judged alone. ``gauges`` return a
    figure instead of being timed; they take turns like the calls, and their medians come second.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    lengths = {name: _length(call) for name, call in calls.items()}
    sample_s = TURN_S if threads == 1 else WALL_SAMPLE_S
    samples: dict[str, list[tuple[float, bool]]] = {name: [] for name in calls}
    readings: dict[str, list[float]] = {name: [] for name in gauges or {}}
    order, shuffle = [*calls, *readings], random.Random(0).shuffle
    began = time.perf_counter()
    for done in range(MAX_ROUNDS):
        if done >= min_rounds and time.perf_counter() - began > budget_s:
            break
        shuffle(order)
        for name in order:
            time.sleep(SETTLE_S)  # lets the previous runtime's idle threads fall asleep
            if name in readings:
                assert gauges is not None
                readings[name].append(gauges[name]())
                continue
            call, count = calls[name], max(1, round(sample_s / lengths[name]))
            call()
            for _ in range(max(1, round(TURN_S / (count * lengths[name])))):
                switches, start = _involuntary_switches(), clock()
                for _ in range(count):
                    call()
                seconds = (clock() - start) / count
                samples[name].append((seconds, threads == 1 or _involuntary_switches() == switches))
    timings = {name: _timing(found) for name, found in samples.items()}
    return timings, {name: statistics.median(found) for name, found in readings.items()}


def _length(call: Callable[[], Any]) -> float:
    """Seconds of one call; the first ones, which may allocate and compile, are not looked at."""
    for _ in range(FIRST_CALLS):
        call()
    start = time.perf_counter()
    call()
    return max(time.perf_counter() - start, 1e-7)


def _timing(samples: list[tuple[float, bool]]) -> Timing:
    clean = [seconds for seconds, undisturbed in samples if undisturbed]
    enough = len(clean) >= MIN_CLEAN
    counted = clean if enough else sorted(seconds for seconds, _ in samples)[: max(1, len(samples) // 4)]
    return Timing(
        median_s=statistics.median(counted),
        minimum_s=min(counted),
        maximum_s=max(counted),
        rounds=len(counted),
        dropped=len(samples) - len(clean),
        disturbed=not enough,
    )


def _involuntary_switches() -> int:
    """Times the system took a core from this process; 0 where it does not say."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
