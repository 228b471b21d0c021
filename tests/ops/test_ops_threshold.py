"""The soft threshold against its formula, written with torch's own operations."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike.ops import soft_threshold

DTYPES = [torch.float32, torch.float64]


class StraightReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


def reference(theta: Tensor, d: Tensor | float) -> Tensor:
    """sign(theta) * relu(|theta| - d) with an identity as the ReLU's gradient; d a constant."""
    return torch.sign(theta) * StraightReLU.apply(theta.abs() - d)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(7, 5, 3, 3), (63,), (1, 1), (0, 3)], ids=str)
@pytest.mark.parametrize("d", [0.0, 0.3, 1.0, 50.0])
def test_values_and_gradients_equal_the_reference(d: float, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    theta = torch.randn(shape, dtype=dtype)
    theta.view(-1)[::5] = 0.0
    theta.view(-1)[1::7] = d
    upstream = torch.randn(shape, dtype=dtype)
    results = []
    for function in (soft_threshold, reference):
        x = theta.clone().requires_grad_()
        y = function(x, torch.tensor(d, dtype=dtype))
        y.backward(upstream)
        results.append((y.detach(), x.grad))
    (y, gradient), (expected, expected_gradient) = results
    assert torch.equal(y, expected), "exact, in every bit but the sign of zero"
    assert torch.equal(gradient, expected_gradient)


def test_gradient_passes_wherever_the_latent_weight_is_not_zero() -> None:
    """Also where the weight itself is zero: what is pruned keeps learning."""
    theta = torch.tensor([-2.0, -0.5, -1e-30, 0.0, -0.0, 0.2, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    w = soft_threshold(theta, 0.5)
    assert w.tolist() == [-1.5, 0, 0, 0, 0, 0, 0, 2.5]
    upstream = torch.randn(8, dtype=torch.float64)
    w.backward(upstream)
    assert torch.equal(theta.grad, upstream * torch.tensor([1, 1, 1, 0, 0, 1, 1, 1]))


def test_zeros_are_positive_zeros() -> None:
    w = soft_threshold(torch.linspace(-1, 1, 21), 0.6)
    zeros = w[w == 0]
    assert len(zeros) == 13 and not torch.signbit(zeros).any()


def test_the_threshold_gets_no_gradient() -> None:
    d = torch.tensor(0.2, requires_grad=True)
    soft_threshold(torch.randn(5, requires_grad=True), d).sum().backward()
    assert d.grad is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_thresholds_add_up(dtype: torch.dtype) -> None:
    theta = torch.randn(1000, dtype=dtype)
    close(soft_threshold(soft_threshold(theta, 0.25), 0.5), soft_threshold(theta, 0.75))
