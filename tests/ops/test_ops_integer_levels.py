"""Integer outputs against the rule for single values, and micro-steps against their sums."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import close

from bitspike.ops import integer_levels, micro_steps, window_gradient_scale

SHIFTS = [-3.0, -0.4, 0.0, 0.3, 2.0]


def fired(u: float, shift: float, largest: int) -> int:
    rest = math.ceil(shift)
    return min(max(round(u), rest), rest + largest)  # Python rounds ties to even, too


@pytest.mark.parametrize("largest", [1, 4, 7])
@pytest.mark.parametrize("shift", SHIFTS)
def test_outputs_and_gradients_are_those_of_the_rule(shift: float, largest: int) -> None:
    u = torch.cat([6 * torch.randn(50), torch.arange(-5, 9) / 2]).double().requires_grad_()  # ties and window ends too
    a = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(len(u), dtype=torch.float64)
    out = integer_levels(u, a, largest, 0.25)
    assert out.tolist() == [fired(x, shift, largest) for x in u.tolist()]
    out.backward(upstream)
    rest = math.ceil(shift)
    inside = torch.tensor([float(rest <= x <= rest + largest) for x in u.tolist()])
    close(u.grad, upstream * inside)
    close(a.grad, 0.25 * (upstream * (1 - inside)).sum())


def test_gradient_of_the_shift_where_all_is_inside_or_all_outside() -> None:
    for u, expected in ((torch.linspace(0, 4, 9), 0.0), (torch.tensor([-2.0, 7.0, 9.0]), 0.5 * 3)):
        a = torch.zeros((), requires_grad=True)
        integer_levels(u, a, 4, 0.5).sum().backward()
        assert a.grad == expected


def test_gradient_of_the_shift_is_the_difference_quotient_on_saturated_input() -> None:
    u = torch.cat([-9 - torch.rand(7), 9 + torch.rand(6)]).double()
    upstream = torch.randn(13, dtype=torch.float64)
    a = torch.zeros((), dtype=torch.float64, requires_grad=True)
    integer_levels(u, a, 4).backward(upstream)
    quotient = ((integer_levels(u, a + 1, 4) - integer_levels(u, a - 1, 4)) * upstream).sum() / 2
    close(a.grad, quotient.detach())


@pytest.mark.parametrize("shape", [(0,), (1, 0, 3), (3, 1, 5)], ids=str)
def test_shapes_and_empty_input(shape: tuple[int, ...]) -> None:
    u, a = torch.zeros(shape, requires_grad=True), torch.zeros((), requires_grad=True)
    out = integer_levels(u, a, 4)
    out.sum().backward()
    assert out.shape == shape and u.grad.shape == shape and a.grad == 0


@pytest.mark.parametrize("largest", [1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 5), (2, 0, 3), (0, 2)], ids=str)
def test_micro_steps_sum_to_the_counts(shape: tuple[int, ...], largest: int) -> None:
    counts = torch.randint(0, largest + 1, shape).double()
    spikes = micro_steps(counts, largest)
    assert spikes.shape == (shape[0] * largest, *shape[1:]) and spikes.dtype == counts.dtype
    assert torch.equal(spikes, spikes**2)
    if shape[0]:
        groups = spikes.unflatten(0, (shape[0], largest))
        assert torch.equal(groups.sum(1), counts)
        assert (groups[:, 1:] <= groups[:, :-1]).all(), "the first micro-steps fire first"


def test_gradient_scale_of_the_shift() -> None:
    assert window_gradient_scale(25, 4) == pytest.approx(0.1)
    assert window_gradient_scale(0, 4) == 0.5
