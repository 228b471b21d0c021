from __future__ import annotations

import itertools

import pytest

from bitspike.measure import timing
from bitspike.measure.timing import interleaved


def test_every_call_is_timed_and_every_gauge_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "TURN_S", 1e-5)
    made = dict.fromkeys("ab", 0)

    def call(name: str) -> None:
        made[name] += 1

    values = itertools.cycle([3.0, 1.0, 2.0])
    times, readings = interleaved(
        {name: lambda name=name: call(name) for name in made},
        budget_s=0,
        min_rounds=3,
        gauges={"g": lambda: next(values)},
    )
    assert readings == {"g": 2.0}
    for name, row in times.items():
        assert row.rounds == 3 and row.dropped == 0 and not row.disturbed
        assert 0 <= row.minimum_s <= row.median_s <= row.maximum_s
        assert made[name] > 2 * 3  # at least one untimed and one timed call in each round


@pytest.mark.parametrize(("every", "counted", "dropped", "disturbed"), [(2, 4, 4, False), (1, 2, 8, True)])
def test_a_sample_with_an_involuntary_switch_is_dropped(
    every: int, counted: int, dropped: int, disturbed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter moves inside every ``every``-th sample; when too few are left, the fastest quarter counts."""
    monkeypatch.setattr(timing, "_length", lambda call: 1.0)  # one sample a turn, of one call
    reads = itertools.count()

    def switches() -> int:
        sample, after = divmod(next(reads), 2)
        return sample // every + (after if sample % every == every - 1 else 0)

    monkeypatch.setattr(timing, "_involuntary_switches", switches)
    times, _ = interleaved({"a": lambda: None}, budget_s=0, min_rounds=8, threads=2)
    assert (times["a"].rounds, times["a"].dropped, times["a"].disturbed) == (counted, dropped, disturbed)


@pytest.mark.parametrize(("threads", "samples"), [(1, 3), (2, 24)])
def test_wall_time_is_taken_in_shorter_samples(threads: int, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_length", lambda call: 1e-4)  # forty calls a turn
    monkeypatch.setattr(timing, "_involuntary_switches", lambda: 0)
    made = 0

    def call() -> None:
        nonlocal made
        made += 1

    times, _ = interleaved({"a": call}, budget_s=0, min_rounds=3, threads=threads)
    assert times["a"].rounds == samples
    assert made == 3 * (1 + 40)
