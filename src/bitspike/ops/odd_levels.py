"""Uniform levels without zero: the odd integers of a b-bit grid.

Sources: QP-SNN (ICLR 2025, arXiv 2502.05905), equations 9 and 10. With s = 2^b - 1 and the stored q in {0, ..., s}::

    q = round(s / 2 * (clamp(w / gamma; -1, 1) + 1))        w_hat = gamma / s * (2 q - s)

so a weight is the odd integer 2 q - s in {-s, -s + 2, ..., s} times gamma / s.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["odd_levels"]


class _OddLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, gamma: Tensor, bits: int, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        s = 2**bits - 1
        stored = (weight / gamma).clamp_(-1, 1).add_(1).mul_(s / 2).round_()
        return stored.mul_(2).sub_(s)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None, None


def odd_levels(weight: Tensor, gamma: Tensor, bits: int, slope: Tensor) -> Tensor:
    """The odd integers 2 q - s nearest to s * clamp(weight / gamma; -1, 1), s = 2^bits - 1 (ties to even q).

    weight: any shape; gamma: positive, broadcastable, gets no gradient; slope: what the gradient of ``weight`` is
    multiplied by, broadcastable: the derivative that stands in for that of the rounding.
    """
    result: Tensor = _OddLevels.apply(weight, gamma, bits, slope)
    return result
