"""How far a pruning threshold has risen: fractions d / D as functions of progress or of the learning rates.

Soft-threshold pruning takes proximal-gradient steps on loss + mu * ||w||_1 with mu = (d[t+1] - d[t]) / lr[t]: a schedule
of the threshold is one of the L1 coefficient. "A Unified Framework for Soft Threshold Pruning" (ICLR 2023, arXiv
2302.13019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

from ..errors import ConfigError

__all__ = ["lats_fractions", "linear", "pgh", "s_lats", "threshold_fractions"]


def linear(progress: float) -> float:
    """d / D = p. With a falling learning rate its L1 coefficient grows without bound; the baseline of the paper."""
    return progress


def s_lats(progress: float) -> float:
    """d / D = p + sin(pi p) / pi: mu is constant under a cosine learning rate without warm-up."""
    return progress + math.sin(math.pi * progress) / math.pi


def pgh(progress: float, beta: float) -> float:
    """Proximal gradient homotopy: mu falls as beta^p under a cosine learning rate, 0 < beta < 1.

    d / D is the integral of beta^q (1 + cos(pi q)) over q from 0 to p, divided by that to 1. A smaller beta prunes
    earlier, beta towards 1 is :func:`s_lats`.
    """
    log = math.log(beta)

    def integral(p: float) -> float:
        power, angle = beta**p, math.pi * p
        oscillating = power * log * (log * math.cos(angle) + math.pi * math.sin(angle))
        return math.pi**2 * math.expm1(p * log) + (power - 2) * log**2 + oscillating

    return integral(progress) / integral(1.0)


def lats_fractions(learning_rates: Sequence[float]) -> list[float]:
    """LATS: d / D after 0, 1, ..., n steps = learning rates used so far / all of them; mu is constant for any schedule.

    Warm-up and a minimum learning rate are covered, where the closed form for a cosine of the released code ignores them.
    """
    sums = [0.0, *accumulate(learning_rates)]
    if not sums[-1] > 0:
        raise ConfigError("the learning rates of the pruning steps add up to 0, accepted: some above 0")
    return [s / sums[-1] for s in sums]


def _of_progress(function: Callable[[float], float], steps: int) -> list[float]:
    return [function(n / steps) for n in range(steps + 1)]


# learning rate of every pruning step, beta -> d / D after 0, 1, ..., n steps
SCHEDULES: dict[str, Callable[[Sequence[float], float], list[float]]] = {
    "lats": lambda rates, beta: lats_fractions(rates),
    "s-lats": lambda rates, beta: _of_progress(s_lats, len(rates)),
    "pgh": lambda rates, beta: _of_progress(lambda p: pgh(p, beta), len(rates)),
    "linear": lambda rates, beta: _of_progress(linear, len(rates)),
    "constant": lambda rates, beta: [1.0] * (len(rates) + 1),
}


def threshold_fractions(schedule: str, learning_rates: Sequence[float], beta: float | None = None) -> list[float]:
    """d / D after 0, 1, ..., n optimizer steps, n = len(learning_rates); never falls, ends at exactly 1.

    Raises ConfigError for an unknown schedule, no steps, a learning rate below 0, and a beta that "pgh" cannot use.
    """
    check_schedule(schedule, beta)
    bad = next((rate for rate in learning_rates if not 0 <= rate < math.inf), None)
    if bad is not None or not len(learning_rates):
        raise ConfigError(
            f"learning rates of the pruning steps: {'none' if bad is None else bad}, accepted: one or more, each 0 or more"
        )
    fractions = SCHEDULES[schedule](learning_rates, 1.0 if beta is None else beta)
    return [*(min(f, 1.0) for f in accumulate(fractions[:-1], max)), 1.0]  # rounding must not let it fall


def check_schedule(schedule: str, beta: float | None) -> None:
    """ConfigError for a schedule that is not known, or a beta that it has no use for."""
    if schedule not in SCHEDULES:
        raise ConfigError(f"schedule is {schedule!r}, accepted: {', '.join(SCHEDULES)}")
    if schedule == "pgh" and (beta is None or not 0 < beta < 1):
        raise ConfigError(f"beta is {beta!r}, accepted for schedule 'pgh': above 0 and below 1")
    if schedule != "pgh" and beta is not None:
        raise ConfigError(f"beta is {beta!r}, accepted for schedule {schedule!r}: none")
