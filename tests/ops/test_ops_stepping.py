"""Advances against plain Python loops over single neurons, values and hand-derived gradients, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import close

from bitspike.ops import (
    Advance,
    Rectangle,
    Triangle,
    adaptive_advance,
    hard_reset,
    integer_advance,
    integer_levels,
    multiplicative_leak,
    scan_membranes,
    scan_outputs,
    soft_reset,
    ternary_advance,
    ternary_hard_reset,
    ternary_soft_reset,
)

LEAK, THRESHOLD, STRENGTH, DECAY, LARGEST = 0.7, 0.8, 1.3, 0.6, 3
Loop = Callable[[list[float], list[float], bool, bool], tuple[list[float], list[float]]]


def triangle(v: float) -> float:
    return max(0.0, 1 - abs(v))


def rectangle(v: float) -> float:
    return float(abs(v) < 0.5)


def integer(current: list[float], upstream: list[float], soft: bool, detach: bool) -> tuple[list[float], list[float]]:
    outputs, inside, carry = [], [], 0.0
    for x in current:
        u = LEAK * carry + x
        s = float(min(max(round(u), 0), LARGEST))
        outputs.append(s)
        inside.append(float(0 <= u <= LARGEST))
        carry = u - s
    gradients, carried = [0.0] * len(current), 0.0
    for t in reversed(range(len(current))):
        d_u = upstream[t] * inside[t] + carried * (1 - (0 if detach else inside[t]))
        gradients[t], carried = d_u, LEAK * d_u
    return outputs, gradients


def ternary(current: list[float], upstream: list[float], soft: bool, detach: bool) -> tuple[list[float], list[float]]:
    outputs, membranes, carry = [], [], 0.0
    for x in current:
        u = LEAK * carry + x
        s = float(u > THRESHOLD) - float(u < -THRESHOLD)
        outputs.append(s)
        membranes.append(u)
        carry = u - THRESHOLD * s if soft else (1 - abs(s)) * u
    gradients, carried = [0.0] * len(current), 0.0
    for t in reversed(range(len(current))):
        u, s = membranes[t], outputs[t]
        up, down = rectangle(u - THRESHOLD), -rectangle(-u - THRESHOLD)  # d/du of the two steps
        by_spikes = -THRESHOLD * (up - down) if soft else -u * (up + down)
        rest_by_u = (1 if soft else 1 - abs(s)) + (0 if detach else by_spikes)
        d_u = upstream[t] * (up - down) + carried * rest_by_u
        gradients[t], carried = d_u, LEAK * d_u
    return outputs, gradients


def adaptive(current: list[float], upstream: list[float], soft: bool, detach: bool) -> tuple[list[float], list[float]]:
    outputs, membranes, thresholds, carry, a = [], [], [], 0.0, 0.0
    for x in current:
        u, b = LEAK * carry + x, THRESHOLD + STRENGTH * a
        s = float(u > b)
        outputs.append(s)
        membranes.append(u)
        thresholds.append(b)
        carry = u - b * s if soft else (1 - s) * u
        a = DECAY * a + (1 - DECAY) * s
    gradients, carried, d_a = [0.0] * len(current), 0.0, 0.0
    for t in reversed(range(len(current))):
        u, s, b = membranes[t], outputs[t], thresholds[t]
        slope = triangle(u - b)
        by_spike = 0.0 if detach else (-b if soft else -u)
        d_s = upstream[t] + carried * by_spike + d_a * (1 - DECAY)
        d_b = -d_s * slope - (carried * s if soft else 0)
        d_u = d_s * slope + carried * (1.0 if soft else 1 - s)
        d_a = d_a * DECAY + d_b * STRENGTH
        gradients[t], carried = d_u, LEAK * d_u
    return outputs, gradients


def integer_rule(soft: bool, detach: bool) -> Advance:
    return integer_advance(
        lambda u: integer_levels(u, torch.zeros(()), LARGEST), multiplicative_leak(LEAK), detach, None
    )


def ternary_rule(soft: bool, detach: bool) -> Advance:
    reset = ternary_soft_reset if soft else ternary_hard_reset
    return ternary_advance(THRESHOLD, Rectangle(), multiplicative_leak(LEAK), reset, detach, None)


def adaptive_rule(soft: bool, detach: bool) -> Advance:
    reset = soft_reset if soft else hard_reset
    leak = multiplicative_leak(LEAK)
    return adaptive_advance(THRESHOLD, STRENGTH, DECAY, Triangle(), leak, reset, detach, None)


RULES: dict[str, tuple[Callable[[bool, bool], Advance], Loop]] = {
    "integer": (integer_rule, integer),
    "ternary": (ternary_rule, ternary),
    "adaptive": (adaptive_rule, adaptive),
}


@pytest.mark.parametrize("T", [1, 2, 7])
@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("name", RULES)
def test_scan_equals_the_loop(name: str, soft: bool, detach: bool, T: int) -> None:
    rule, loop = RULES[name]
    current = (0.3 + 1.2 * torch.randn(T, 3, 11, dtype=torch.float64)).requires_grad_()
    upstream = torch.randn(T, 3, 11, dtype=torch.float64)
    outputs = scan_outputs(current, rule(soft, detach))
    outputs.backward(upstream)
    for n in range(3):
        for i in range(11):
            expected, gradient = loop(current[:, n, i].tolist(), upstream[:, n, i].tolist(), soft, detach)
            assert outputs[:, n, i].tolist() == expected
            close(current.grad[:, n, i], torch.tensor(gradient, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_empty_and_short_sequences(name: str, shape: tuple[int, ...]) -> None:
    advance = RULES[name][0](True, False)
    current = torch.zeros(shape)
    assert scan_outputs(current, advance).shape == scan_membranes(current, advance).shape == shape


@pytest.mark.parametrize("name", RULES)
def test_what_is_carried_goes_through_the_store(name: str) -> None:
    """With a store that forgets all, every step is a first step."""
    leak = multiplicative_leak(LEAK)
    advance = {
        "integer": integer_advance(torch.round, leak, False, torch.zeros_like),
        "ternary": ternary_advance(THRESHOLD, Rectangle(), leak, ternary_hard_reset, False, torch.zeros_like),
        "adaptive": adaptive_advance(THRESHOLD, 0.0, DECAY, Triangle(), leak, hard_reset, False, torch.zeros_like),
    }[name]
    current = torch.randn(4, 9)
    assert torch.equal(scan_membranes(current, advance), current)
