"""The soft threshold of soft-threshold pruning: shrink towards zero, straight-through gradient.

Source: "A Unified Framework for Soft Threshold Pruning" (ICLR 2023, arXiv 2302.13019).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["soft_threshold"]


class _SoftThreshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, theta: Tensor, d: Tensor) -> Tensor:
        ctx.save_for_backward(theta != 0)
        return theta - torch.clamp(theta, -d, d)  # sign(theta) * max(|theta| - d, 0), without a negative zero

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.saved_tensors[0], None


def soft_threshold(theta: Tensor, d: Tensor | float) -> Tensor:
    """S_d(theta) = sign(theta) * max(|theta| - d, 0), elementwise, for a scalar ``d`` >= 0.

    theta any shape; zeros of the result are +0.0. Backward is the identity wherever theta != 0, also where the result
    is zero (pruned weights learn on and may return), and zero where theta == 0. No gradient reaches ``d``.
    """
    result: Tensor = _SoftThreshold.apply(theta, torch.as_tensor(d, dtype=theta.dtype, device=theta.device).detach())
    return result
