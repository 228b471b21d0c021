from __future__ import annotations

import math

import pytest
import torch
from helpers import TOLERANCES, close

from bitspike.ops import floor_ste, quantize_power_of_two, quantize_tanh, round_ste, symmetric_levels

BITS = [2, 3, 4, 8, 16]
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("bits, levels", [(2, 1), (3, 3), (4, 7), (8, 127), (16, 32767)])
def test_symmetric_levels(bits: int, levels: int) -> None:
    assert symmetric_levels(bits) == levels


@pytest.mark.parametrize("function, expected", [(round_ste, [-2, -2, 0, 0, 1, 2]), (floor_ste, [-3, -2, -1, 0, 0, 1])])
def test_rounding_is_straight_through(function, expected: list[int]) -> None:
    x = torch.tensor([-2.5, -1.7, -0.5, 0.5, 0.7, 1.6], dtype=torch.float64, requires_grad=True)
    y = function(x)
    assert y.tolist() == expected
    upstream = torch.randn(6, dtype=torch.float64)
    y.backward(upstream)
    assert torch.equal(x.grad, upstream)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bits", BITS)
def test_tanh_levels_are_symmetric_few_and_hold_zero(bits: int, dtype: torch.dtype) -> None:
    u = torch.cat([torch.linspace(-3, 3, 4001, dtype=dtype), torch.zeros(1, dtype=dtype)])
    alpha = torch.tanh(u).abs().max()
    q = quantize_tanh(u, alpha, bits)
    levels = q.unique()
    top = symmetric_levels(bits)
    assert len(levels) == min(2 * top + 1, len(levels)) <= 2**bits - 1
    if bits <= 8:
        assert len(levels) == 2 * top + 1
    close(levels, -levels.flip(0))
    assert (q == 0).any() and q.abs().max() == alpha < 1
    assert ((q - torch.tanh(u)).abs() <= alpha / (2 * top) + TOLERANCES[dtype]).all()


@pytest.mark.parametrize("alpha", [0.0, 1e-45, 0.5, 1.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tanh_of_zeros_is_zeros(alpha: float, dtype: torch.dtype) -> None:
    u = torch.zeros(3, 4, dtype=dtype, requires_grad=True)
    q = quantize_tanh(u, torch.tensor(alpha, dtype=dtype), 4)
    assert torch.equal(q, torch.zeros_like(q))
    q.sum().backward()
    assert u.grad.isfinite().all()


def test_tanh_gradient() -> None:
    """Straight through the rounding, masked by the clip, times 1 - tanh^2."""
    u = torch.tensor([-2.0, -0.3, 0.0, 0.4, 3.0], dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(0.5, dtype=torch.float64)
    quantize_tanh(u, alpha, 4).sum().backward()
    expected = [0.0, *(1 - math.tanh(v) ** 2 for v in (-0.3, 0.0, 0.4)), 0.0]
    close(u.grad, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("log2_step", [-5, 0, 2])
@pytest.mark.parametrize("bits", BITS)
def test_power_of_two_is_the_integer_rule(bits: int, log2_step: int, dtype: torch.dtype) -> None:
    """step * clip((v + half) >> 3): with u in eighths of a step everything is an integer."""
    eighths = torch.arange(-9 * 2 ** min(bits, 9), 9 * 2 ** min(bits, 9) + 1)
    top = symmetric_levels(bits)
    expected = ((eighths + 4) >> 3).clamp(-top, top)
    q = quantize_power_of_two(eighths.to(dtype) / 8 * 2.0**log2_step, log2_step, bits)
    assert q.dtype == dtype
    assert torch.equal((q / 2.0**log2_step).long(), expected)


def test_power_of_two_gradient_is_masked_by_the_clip() -> None:
    u = torch.tensor([-9.0, -1.8, -0.2, 0.0, 0.3, 1.6, 9.0], dtype=torch.float64, requires_grad=True)
    quantize_power_of_two(u, -1, 3).sum().backward()  # reaches ±1.5
    assert u.grad.tolist() == [0, 0, 1, 1, 1, 1, 0] or u.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert quantize_power_of_two(u.detach(), -1, 3).tolist() == [-1.5, -1.5, 0, 0, 0.5, 1.5, 1.5]
