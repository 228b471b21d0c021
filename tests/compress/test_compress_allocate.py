"""The allocation of bits against trying everything, and its front."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bitspike.compress import Allocation, allocate, allocation_front
from bitspike.errors import ConfigError

Table = dict[str, dict[int, float]]


def _falling(rng: np.random.Generator, bits: int) -> float:
    return float(4.0**-bits * rng.random())


LOSSES = {  # random generator, bits -> sensitivity
    "any": lambda rng, bits: float(rng.random()),
    "falling": _falling,
    "many-scales": lambda rng, bits: float(10 ** rng.uniform(-9, 0)),
    "ties": lambda rng, bits: float(rng.integers(0, 3)),
}
COSTS = {
    "bytes": lambda rng: (lambda size: lambda bits: size * bits / 8)(int(10 ** rng.uniform(1, 6))),
    "seconds": lambda rng: lambda bits: float(rng.random() * 1e-3),
}


def instance(losses: str, costs: str, seed: int) -> tuple[Table, Table, float]:
    """Up to five layers of up to five candidates, and a budget somewhere between the extremes."""
    rng = np.random.default_rng([list(LOSSES).index(losses), list(COSTS).index(costs), seed])
    candidates = {f"layer{i}": range(1, 2 + int(rng.integers(5))) for i in range(1 + int(rng.integers(5)))}
    loss = {name: {b: LOSSES[losses](rng, b) for b in bits} for name, bits in candidates.items()}
    cost = {}
    for name, bits in candidates.items():
        price = COSTS[costs](rng)
        cost[name] = {b: price(b) for b in bits}
    low, high = (math.fsum(pick(row.values()) for row in cost.values()) for pick in (min, max))
    return loss, cost, low + (high - low) * rng.choice([0, 0.1, 0.5, rng.random(), 1])


def everything(loss: Table, cost: Table, budget: float) -> tuple[float, float]:
    """(loss, cost) of the best of all choices; of equal ones, the cheapest."""
    best = (math.inf, math.inf)
    for choice in itertools.product(*cost.values()):
        bits = dict(zip(cost, choice, strict=True))
        price = math.fsum(cost[name][b] for name, b in bits.items())
        if price <= budget:
            best = min(best, (math.fsum(loss[name][b] for name, b in bits.items()), price))
    return best


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("losses", LOSSES)
def test_it_is_the_best_of_all_choices(losses: str, costs: str) -> None:
    for seed in range(12):
        loss, cost, budget = instance(losses, costs, seed)
        found = allocate(loss, cost, budget)
        assert found.predicted == pytest.approx(everything(loss, cost, budget)[0], rel=1e-12), seed
        assert found.cost <= budget and list(found.bits) == list(cost)
        assert found.cost == math.fsum(cost[name][b] for name, b in found.bits.items())
        assert found.predicted == math.fsum(loss[name][b] for name, b in found.bits.items())


@pytest.mark.parametrize("losses", LOSSES)
def test_what_does_not_depend_on_the_bits_is_part_of_the_budget(losses: str) -> None:
    loss, cost, budget = instance(losses, "bytes", 3)
    plain, shifted = allocate(loss, cost, budget), allocate(loss, cost, budget + 1000, fixed=1000)
    assert shifted == Allocation(plain.bits, plain.predicted, plain.cost + 1000, 1000)


@pytest.mark.parametrize("order", [1, -1])
def test_bits_that_gain_nothing_are_not_spent(order: int) -> None:
    loss = {"a": {1: 0.5, 2: 0.1, 4: 0.1, 8: 0.3}, "b": {1: 0.0, 4: 0.0, 8: 0.0}}
    cost = {name: {b: float(b) for b in [*row][::order]} for name, row in loss.items()}
    assert allocate(loss, cost, 100).bits == {"a": 2, "b": 1}


def test_a_choice_over_the_budget_by_rounding_is_not_taken() -> None:
    """The better choice costs one part in 10^9 more than allowed, well within an integer program's tolerance."""
    loss = {"a": {1: 1.0, 2: 0.0}, "b": {1: 1.0, 2: 0.5}}
    cost = {"a": {1: 1.0, 2: 10.0 + 1e-8}, "b": {1: 0.0, 2: 9.0}}
    assert allocate(loss, cost, 10.0).bits == {"a": 1, "b": 2}
    assert allocate(loss, cost, 10.0 + 1e-8).bits == {"a": 2, "b": 1}


@pytest.mark.parametrize("seed", range(6))
def test_the_front_is_monotone_from_the_cheapest_to_the_best(seed: int) -> None:
    loss, cost, _ = instance("any", "bytes", seed)
    front = allocation_front(loss, cost, 9, fixed=50.0)
    assert all(a.cost < b.cost and a.predicted > b.predicted for a, b in itertools.pairwise(front))
    assert front[0].cost == 50 + math.fsum(min(row.values()) for row in cost.values())
    assert front[-1].predicted == math.fsum(min(row.values()) for row in loss.values())
    assert len(front) <= 9
    for point in front:  # each is optimal at its own cost
        assert point.predicted == pytest.approx(everything(loss, cost, point.cost - 50)[0])


def test_a_layer_without_any_cost_or_loss() -> None:
    zeros = {"a": {1: 0.0, 2: 0.0}}
    assert allocate(zeros, zeros, 0).bits == {"a": 1}
    assert allocation_front(zeros, zeros) == (Allocation({"a": 1}, 0.0, 0.0),)


@pytest.mark.parametrize(
    ("unit", "scale", "fixed", "message", "enough"),
    [
        ("bytes", 1.0, 10.0, r"budget is 99 bytes, accepted: 1,011 bytes or more, what every layer at its least", 1011),
        ("seconds", 1e-6, 1e-5, r"budget is 99 µs, accepted: 1,011 µs or more", 1011e-6),
    ],
)
def test_a_budget_too_small_names_one_that_is_enough(
    unit: str, scale: float, fixed: float, message: str, enough: float
) -> None:
    cost = {"a": {2: 800.25 * scale, 4: 1600 * scale}, "b": {1: 200.125 * scale}}
    loss = {"a": {2: 1.0, 4: 0.5}, "b": {1: 0.1}}
    with pytest.raises(ConfigError, match=message):
        allocate(loss, cost, 99.9 * scale, fixed=fixed, unit=unit)
    assert allocate(loss, cost, enough, fixed=fixed, unit=unit).bits == {"a": 2, "b": 1}


ROW = {1: 1.0, 2: 0.5}


@pytest.mark.parametrize(
    ("loss", "cost", "options", "message"),
    [
        ({"a": ROW}, {"b": ROW}, {}, "costs name b, accepted: a"),
        ({"a": ROW}, {}, {}, "costs name no layer, accepted: a"),
        ({"a": ROW}, {"a": {1: 1.0}}, {}, r"costs of 'a' are for \[1\] bits, accepted: \[1, 2\]"),
        ({"a": ROW}, {"a": {1: 1.0, 2: math.inf}}, {}, "a cost of 'a' is inf, accepted: finite numbers, 0 or more"),
        ({"a": {1: math.nan, 2: 0.0}}, {"a": ROW}, {}, "a sensitivity of 'a' is nan, accepted: finite"),
        ({"a": ROW}, {"a": {1: -1.0, 2: 1.0}}, {}, "a cost of 'a' is -1.0, accepted"),
        ({"a": ROW}, {"a": ROW}, {"unit": "ms"}, "unit is 'ms', accepted: bytes, seconds"),
        ({"a": ROW}, {"a": ROW}, {"budget": math.nan}, "budget is nan, accepted: a finite number"),
    ],
)
def test_tables_that_do_not_fit_are_refused(loss: Table, cost: Table, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        allocate(loss, cost, **{"budget": 10.0} | options)


def test_a_front_has_two_ends() -> None:
    with pytest.raises(ConfigError, match="points are 1, accepted: 2 or more"):
        allocation_front({"a": ROW}, {"a": ROW}, 1)
