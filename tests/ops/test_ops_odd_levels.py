"""The odd-integer grid against the list of its levels."""

from __future__ import annotations

import pytest
import torch
from helpers import close

from bitspike.ops import odd_levels


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_weight_goes_to_the_nearest_odd_level(bits: int, dtype: torch.dtype) -> None:
    s = 2**bits - 1
    levels = torch.arange(-s, s + 1, 2, dtype=dtype)
    assert len(levels) == 2**bits
    gamma = torch.tensor([0.3, 1.0, 7.0], dtype=dtype)[:, None]
    w = 2 * torch.randn(3, 1001, dtype=dtype)
    integers = odd_levels(w, gamma, bits, torch.ones(()))
    assert integers.dtype == dtype and torch.isin(integers, levels).all()
    target = s * (w / gamma).clamp(-1, 1)
    distance = (target[..., None] - levels).abs()
    assert ((target - integers).abs() <= distance.amin(-1) * (1 + 1e-4) + 1e-4).all()


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_ends_of_the_range_and_ties(bits: int) -> None:
    s, w = 2**bits - 1, torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0], dtype=torch.float64)
    integers = odd_levels(w, torch.ones(()), bits, torch.ones(()))
    assert integers.tolist() == [-s, -s, -1 if bits == 1 else 1, s, s]


def test_gradient_is_the_slope_given() -> None:
    w = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    slope, upstream = torch.rand(4, 1, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    gamma = torch.rand(4, 1, dtype=torch.float64).requires_grad_()
    odd_levels(w, gamma, 3, slope).backward(upstream)
    close(w.grad, upstream * slope)
    assert gamma.grad is None
