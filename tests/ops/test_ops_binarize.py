from __future__ import annotations

import math

import pytest
import torch
from helpers import close

from bitspike.ops import error_decay_schedule, error_decay_sign, power_of_two_scale, standardize


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3, 3), (1, 7, 1, 1)], ids=str)
def test_standardize_moments(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    w = standardize(3 + 2 * torch.randn(shape, dtype=dtype)).flatten(1)
    assert w.dtype == dtype
    close(w.mean(1), torch.zeros(shape[0], dtype=dtype))
    close(w.std(1), torch.ones(shape[0], dtype=dtype))


def test_standardize_gradient_is_the_true_one() -> None:
    w = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(standardize, (w,))


CONSTANTS = [0.0, 1.0, 0.1, -0.3, 1e-3, 123.456]


@pytest.mark.parametrize("fan_in", [1, 2, 27, 1152])
@pytest.mark.parametrize("value", CONSTANTS)
def test_standardize_constant_channel_is_zero(value: float, fan_in: int) -> None:
    """The mean of equal floats need not equal them: the rounding error must not be blown up to unit variance."""
    w = torch.full((2, fan_in), value, requires_grad=True)
    s = standardize(w)
    assert torch.equal(s, torch.zeros_like(s))
    s.sum().backward()
    assert w.grad.isfinite().all()


@pytest.mark.parametrize(
    "value, expected", [(1.0, 1.0), (1.41, 1.0), (1.42, 2.0), (0.71, 1.0), (0.70, 0.5), (0.0, 1.0)]
)
def test_scale_is_the_nearest_power_of_two(value: float, expected: float) -> None:
    scale = power_of_two_scale(torch.full((2, 3, 3), value, requires_grad=True))
    assert scale.shape == (2, 1, 1) and not scale.requires_grad
    assert scale.flatten().tolist() == [expected] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_sign_values(dtype: torch.dtype) -> None:
    x = torch.tensor([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0], dtype=dtype)
    y = error_decay_sign(x, torch.tensor(1.0), torch.tensor(1.0))
    assert y.dtype == dtype and y.tolist() == [-1, -1, 1, 1, 1, 1]


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_point_04_estimator_is_the_derivative_of_k_tanh_tx(progress: float) -> None:
    k, t = error_decay_schedule(progress)
    x = torch.linspace(-3, 3, 31, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(31, dtype=torch.float64)
    k_tensor, t_tensor = torch.tensor(k, dtype=torch.float64), torch.tensor(t, dtype=torch.float64)
    error_decay_sign(x, k_tensor, t_tensor).backward(upstream)
    h = 1e-5
    with torch.no_grad():
        numeric = k * (torch.tanh(t * (x + h)) - torch.tanh(t * (x - h))) / (2 * h)
    torch.testing.assert_close(x.grad, upstream * numeric, rtol=1e-6, atol=1e-7)


def test_point_04_slopes_at_start_and_end() -> None:
    def slope(progress: float, at: float) -> float:
        k, t = (torch.tensor(v, dtype=torch.float64) for v in error_decay_schedule(progress))
        x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        error_decay_sign(x, k, t).backward()
        return x.grad.item()

    assert slope(0, 0.0) == pytest.approx(1)
    assert slope(1, 0.0) == pytest.approx(10)
    # At t = 10 the derivative at 1 is 10 / cosh(10)^2 = 8.2e-8.
    assert all(slope(1, x) < 1e-6 for x in (-5.0, -1.0, 1.0, 2.0))
    assert slope(1, 1.0) == pytest.approx(10 / math.cosh(10) ** 2)


@pytest.mark.parametrize(
    "progress, k, t", [(0, 10, 0.1), (0.25, math.sqrt(10), 1 / math.sqrt(10)), (0.5, 1, 1), (1, 1, 10)]
)
def test_error_decay_schedule(progress: float, k: float, t: float) -> None:
    assert error_decay_schedule(progress) == (pytest.approx(k), pytest.approx(t))
