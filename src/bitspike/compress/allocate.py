"""Bits per layer under a budget: the choice of least summed sensitivity, solved exactly.

With x[l, b] = 1 where layer l gets b bits (one of its candidates), sensitivity s and cost c::

    minimise sum s[l, b] x[l, b]    subject to    sum c[l, b] x[l, b] + fixed <= budget,  sum_b x[l, b] = 1 for every l

a multiple-choice knapsack, given to an integer program. Adding up sensitivities measured one layer at a time is its one
approximation. A cost is anything that adds up: bytes, or seconds from ``measure.layer_times``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError

__all__ = ["Allocation", "Table", "allocate", "allocation_at", "allocation_front", "check_tables", "too_small"]

Table = Mapping[str, Mapping[int, float]]
"""Layer -> bits -> a number."""

UNITS = {"bytes": (1.0, "bytes"), "seconds": (1e6, "µs")}  # as messages say them: factor, name
OBJECTIVE = 1e6  # largest sensitivity as the solver sees it, far above its absolute gap of 1e-6


@dataclass(frozen=True)
class Allocation:
    """``bits`` of every layer, ``predicted`` summed sensitivity (nats), ``cost`` in the budget's unit with ``fixed``."""

    bits: dict[str, int]
    predicted: float
    cost: float
    fixed: float = 0.0


def allocate(
    sensitivities: Table, costs: Table, budget: float, *, fixed: float = 0.0, unit: str = "bytes"
) -> Allocation:
    """The bits of least summed sensitivity whose summed costs and ``fixed`` are within ``budget``.

    Both tables name the same layers and the same candidates for each. ``unit`` ("bytes", "seconds") is what messages say.
    Raises ConfigError where no choice is within the budget, naming the smallest possible, for tables that differ, and for
    numbers that are not finite.
    """
    check_tables(sensitivities, costs, unit)
    if not math.isfinite(budget):
        raise ConfigError(f"budget is {budget}, accepted: a finite number")
    smallest = math.fsum([fixed, *(min(row.values()) for row in costs.values())])
    if smallest > budget:
        raise too_small(budget, smallest, unit)
    choices = [(name, b) for name in costs for b in _undominated(sensitivities[name], costs[name])]
    excluded: list[set[tuple[str, int]]] = []
    while True:  # the solver's tolerance may let a choice pass that is over the budget by rounding
        chosen = _solve(choices, sensitivities, costs, budget - fixed, excluded)
        found = allocation_at(dict(chosen), sensitivities, costs, fixed)
        if found.cost <= budget:
            return found
        excluded.append(set(chosen))


def allocation_front(
    sensitivities: Table, costs: Table, points: int = 24, *, fixed: float = 0.0
) -> tuple[Allocation, ...]:
    """Optimal allocations at ``points`` budgets between the smallest and the largest cost; equal ones appear once.

    Costs ascend and predicted losses descend.
    """
    if points < 2:
        raise ConfigError(f"points are {points}, accepted: 2 or more")
    check_tables(sensitivities, costs)
    low, high = (math.fsum([fixed, *(pick(row.values()) for row in costs.values())]) for pick in (min, max))
    front: list[Allocation] = []
    for position in range(points):
        found = allocate(sensitivities, costs, max(low, low + (high - low) * position / (points - 1)), fixed=fixed)
        if not front or found.predicted < front[-1].predicted:
            front.append(found)
    return tuple(front)


def too_small(budget: float, smallest: float, unit: str) -> ConfigError:
    """The error that says what the smallest possible budget is."""
    factor, name = UNITS[unit]
    least = math.ceil(factor * smallest)  # a budget that the message accepts is accepted
    return ConfigError(
        f"budget is {math.floor(factor * budget):,} {name}, accepted: {least:,} {name} or more, "
        "what every layer at its least takes"
    )


def check_tables(sensitivities: Table, costs: Table, unit: str = "bytes") -> None:
    """ConfigError unless both tables hold finite numbers for the same layers and bits."""
    if unit not in UNITS:
        raise ConfigError(f"unit is {unit!r}, accepted: {', '.join(UNITS)}")
    if not costs or set(costs) != set(sensitivities):
        raise ConfigError(f"costs name {', '.join(costs) or 'no layer'}, accepted: {', '.join(sensitivities)}")
    for name, row in costs.items():
        if not row or set(row) != set(sensitivities[name]):
            raise ConfigError(f"costs of {name!r} are for {sorted(row)} bits, accepted: {sorted(sensitivities[name])}")
        for what, values in (("cost", row), ("sensitivity", sensitivities[name])):
            bad = [value for value in values.values() if not (math.isfinite(value) and value >= 0)]
            if bad:
                raise ConfigError(f"a {what} of {name!r} is {bad[0]}, accepted: finite numbers, 0 or more")


def _undominated(losses: Mapping[int, float], costs: Mapping[int, float]) -> list[int]:
    """Candidates that no other one equals or beats in both; ties go to the fewest bits."""
    kept: list[int] = []
    for b in sorted(costs, key=lambda b: (costs[b], losses[b], b)):
        if not kept or losses[b] < losses[kept[-1]]:
            kept.append(b)
    return kept


def _solve(
    choices: Sequence[tuple[str, int]],
    losses: Table,
    costs: Table,
    room: float,
    excluded: Sequence[set[tuple[str, int]]],
) -> list[tuple[str, int]]:
    """The best choice, one of each layer's, that is none of ``excluded``."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    names = list(dict.fromkeys(name for name, _ in choices))
    loss = np.array([losses[name][b] for name, b in choices])
    cost = np.array([costs[name][b] for name, b in choices])
    scale = max(room, cost.max()) or 1.0
    one_each = np.array([[float(name == owner) for owner, _ in choices] for name in names])
    rows = [LinearConstraint(one_each, 1, 1), LinearConstraint(cost[None] / scale, -np.inf, room / scale)]
    for before in excluded:
        same = np.array([[float(choice in before) for choice in choices]])
        rows.append(LinearConstraint(same, -np.inf, len(names) - 1))
    solved = milp(
        loss * (OBJECTIVE / (loss.max() or 1.0)),
        constraints=rows,
        integrality=np.ones(len(choices)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    return [choice for choice, taken in zip(choices, solved.x, strict=True) if taken > 0.5]


def allocation_at(bits: dict[str, int], losses: Table, costs: Table, fixed: float = 0.0) -> Allocation:
    """The allocation of these ``bits``, its loss and cost added up exactly."""
    predicted = math.fsum(losses[name][b] for name, b in bits.items())
    return Allocation(bits, predicted, math.fsum([fixed, *(costs[name][b] for name, b in bits.items())]), fixed)
