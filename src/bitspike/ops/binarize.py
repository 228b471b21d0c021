"""Binary weights: standardisation, power-of-two scale and the error-decay sign estimator.

Source: Q-SNN (ACM Multimedia 2024), weight regulation; the estimator is the one known from IR-Net.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "clipped_sign",
    "error_decay_schedule",
    "error_decay_sign",
    "identity_sign",
    "power_of_two_scale",
    "standardize",
]


def standardize(weight: Tensor) -> Tensor:
    """(W - mean) / std per output channel; weight (M, ...), unbiased std, gradients flow through both.

    A constant channel has no direction to standardise and is returned as zeros.
    """
    rows = weight.flatten(1)
    centred = rows - rows.mean(1, keepdim=True)
    noise = 8 * torch.finfo(rows.dtype).eps * rows.detach().abs().amax(1, keepdim=True)  # of the mean of equal numbers
    varies = centred.detach().abs().amax(1, keepdim=True) > noise
    safe = torch.where(varies, centred, torch.arange(rows.shape[1], dtype=rows.dtype, device=rows.device))
    standardized = safe / safe.std(1, keepdim=True) if rows.shape[1] > 1 else safe
    return torch.where(varies, standardized, torch.zeros_like(rows)).view_as(weight)


def power_of_two_scale(standardized: Tensor) -> Tensor:
    """2^round(log2(mean |w|)) per output channel, shape (M, 1, ...), without gradient; 1 for a zero channel."""
    magnitude = standardized.detach().flatten(1).abs().mean(1)
    magnitude = torch.where(magnitude > 0, magnitude, torch.ones_like(magnitude))
    scale = torch.exp2(torch.log2(magnitude).round())
    return scale.view(-1, *[1] * (standardized.dim() - 1))


class _ErrorDecaySign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, k: Tensor, t: Tensor) -> Tensor:
        ctx.save_for_backward(x, k, t)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, k, t = ctx.saved_tensors
        return gradients[0] * k * t * (1 - torch.tanh(t * x) ** 2), None, None


def error_decay_sign(x: Tensor, k: Tensor, t: Tensor) -> Tensor:
    """Sign with 0 mapped to +1; backward is the derivative of k * tanh(t * x). ``k`` and ``t`` are scalars."""
    result: Tensor = _ErrorDecaySign.apply(x, k, t)
    return result


class _ClippedSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(x, gain)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, gain = ctx.saved_tensors
        return gradients[0] * gain * (x.abs() <= 1), None


def clipped_sign(x: Tensor, gain: Tensor) -> Tensor:
    """Sign with 0 mapped to +1; backward is gain * 1[|x| <= 1]. ``gain`` broadcasts to x and gets no gradient."""
    result: Tensor = _ClippedSign.apply(x, gain)
    return result


class _IdentitySign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def identity_sign(x: Tensor) -> Tensor:
    """Sign with 0 mapped to +1; backward is the identity, without clipping."""
    result: Tensor = _IdentitySign.apply(x)
    return result


def error_decay_schedule(progress: float) -> tuple[float, float]:
    """(k, t) at training progress e / E in [0, 1]: t = 10^(-1 + 2 progress), k = max(1 / t, 1)."""
    t = 10.0 ** (-1.0 + 2.0 * progress)
    return max(1.0 / t, 1.0), t
