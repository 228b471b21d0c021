"""The scan against a plain Python loop over single neurons, values and hand-derived gradients, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike.ops import (
    SURROGATES,
    LifRule,
    Triangle,
    hard_reset,
    lif_scan,
    lif_step,
    multiplicative_leak,
    quantize_power_of_two,
    shift_leak,
    soft_reset,
)

THRESHOLD, LEAK, STEP, LEVELS = 0.8, 0.7, 2.0**-2, 3  # the store is a 3-bit grid of quarters


def slope(distance: float) -> float:
    return max(0.0, 1 - abs(distance))


def neuron(
    current: list[float], upstream: list[float], *, soft: bool, detach: bool, store: bool, shift: int | None
) -> tuple[list[float], list[float]]:
    """Spikes of one neuron, and the gradient of sum(upstream * spikes) with respect to each current."""
    spikes, potentials, inside = [], [], []
    carry = 0.0
    for x in current:
        leaked = LEAK * carry if shift is None else carry - math.floor(carry / STEP / 2**shift) * STEP
        u = leaked + x
        s = 1.0 if u > THRESHOLD else 0.0
        rest = u - THRESHOLD * s if soft else (1 - s) * u
        carry, passes = rest, 1.0
        if store:
            level = math.floor(rest / STEP + 0.5)
            passes = float(-LEVELS <= level <= LEVELS)
            carry = min(max(level, -LEVELS), LEVELS) * STEP
        spikes.append(s)
        potentials.append(u)
        inside.append(passes)
    leak_slope = LEAK if shift is None else 1 - 2.0**-shift
    gradients = [0.0] * len(current)
    carried = 0.0  # d loss / d carry
    for t in reversed(range(len(current))):
        u, s = potentials[t], spikes[t]
        through_spike = slope(u - THRESHOLD)
        rest_by_u = 1.0 if soft else 1 - s
        rest_by_spike = 0.0 if detach else (-THRESHOLD if soft else -u)
        d_rest = carried * inside[t]
        d_u = upstream[t] * through_spike + d_rest * (rest_by_u + rest_by_spike * through_spike)
        gradients[t] = d_u
        carried = d_u * leak_slope
    return spikes, gradients


def rule(*, soft: bool, detach: bool, store: bool, shift: int | None) -> LifRule:
    return LifRule(
        multiplicative_leak(LEAK) if shift is None else shift_leak(shift, STEP),
        THRESHOLD,
        Triangle(),
        soft_reset if soft else hard_reset,
        detach,
        (lambda u: quantize_power_of_two(u, -2, 3)) if store else None,
    )


@pytest.mark.parametrize("shift", [None, 1, 2], ids=["leak0.7", "shift1", "shift2"])
@pytest.mark.parametrize("store", [False, True], ids=["full", "stored3bit"])
@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("steps", [1, 2, 7], ids=lambda t: f"T{t}")
def test_scan_equals_scalar_loop(steps: int, soft: bool, detach: bool, store: bool, shift: int | None) -> None:
    options = {"soft": soft, "detach": detach, "store": store, "shift": shift}
    current = (0.9 * torch.randn(steps, 3, 5, dtype=torch.float64)).requires_grad_()
    upstream = torch.randn(steps, 3, 5, dtype=torch.float64)
    spikes = lif_scan(current, rule(**options))
    spikes.backward(upstream)
    flat, up = current.detach().flatten(1).T.tolist(), upstream.flatten(1).T.tolist()
    expected = [neuron(x, g, **options) for x, g in zip(flat, up, strict=True)]
    values, gradients = (torch.tensor([e[i] for e in expected], dtype=torch.float64).T for i in (0, 1))
    assert torch.equal(spikes.detach().flatten(1), values)
    close(current.grad.flatten(1), gradients)
    if steps == 7:
        assert 0.05 < spikes.mean() < 0.9 and gradients.abs().min() >= 0 < gradients.abs().max()


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogate_of_the_rule_is_used(name: str) -> None:
    surrogate = SURROGATES[name]()
    current = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    lif_scan(current, LifRule(surrogate=surrogate)).sum().backward()
    assert torch.equal(current.grad, surrogate.derivative(current.detach() - 1.0))


@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 0, 2), (1, 1), (3, 2, 0, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_empty_and_short_sequences_keep_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    spikes = lif_scan(torch.ones(shape, dtype=dtype), LifRule(store=lambda u: quantize_power_of_two(u, -2, 3)))
    assert spikes.shape == shape and spikes.dtype == dtype


def test_spike_needs_more_than_the_threshold() -> None:
    at, above = torch.tensor([[1.0]]), torch.tensor([[1.0 + 1e-6]])
    assert lif_scan(at, LifRule()).item() == 0 and lif_scan(above, LifRule()).item() == 1


def test_gradient_reaches_a_learned_leak() -> None:
    """d u[2] / d leak is the carry: hand-checked on two steps."""
    leak = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    current = torch.tensor([[0.6], [0.4]], dtype=torch.float64)
    lif_scan(current, LifRule(leak=multiplicative_leak(leak)))[1].sum().backward()
    close(leak.grad, torch.tensor(0.6 * slope(0.5 * 0.6 + 0.4 - 1), dtype=torch.float64))


@pytest.mark.parametrize("shift", [1, 2, 3, 7])
def test_shift_leak_is_the_integer_rule(shift: int) -> None:
    integers = torch.arange(-300, 301)
    expected = integers - (integers >> shift)
    actual = shift_leak(shift, 2.0**-5)(integers.double() * 2.0**-5)
    assert torch.equal(actual * 2**5, expected.double())


def test_step_carries_what_the_scan_carries() -> None:
    the_rule = rule(soft=True, detach=False, store=True, shift=2)
    current: Tensor = torch.randn(6, 4, dtype=torch.float64)
    carry, steps = None, []
    for x in current:
        s, carry = lif_step(x, carry, the_rule)
        steps.append(s)
        assert torch.equal(carry / STEP, (carry / STEP).round()) and carry.abs().max() <= LEVELS * STEP
    assert torch.equal(torch.stack(steps), lif_scan(current, the_rule))
