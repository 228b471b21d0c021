"""Rounding with straight-through gradients, and the membrane quantizers built on it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["floor_ste", "quantize_power_of_two", "quantize_tanh", "round_ste", "symmetric_levels"]


class _Rounded(torch.autograd.Function):
    """Replaces a value by a rounded one; the gradient passes unchanged (straight-through)."""

    @staticmethod
    def forward(ctx: object, value: Tensor, rounded: Tensor) -> Tensor:
        return rounded.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def round_ste(x: Tensor) -> Tensor:
    """Nearest integer (ties to even); gradient 1."""
    result: Tensor = _Rounded.apply(x, x.detach().round())
    return result


def floor_ste(x: Tensor) -> Tensor:
    """Floor; gradient 1."""
    result: Tensor = _Rounded.apply(x, x.detach().floor())
    return result


def symmetric_levels(bits: int) -> int:
    """Largest level L of a symmetric ``bits``-bit grid {-L, ..., L}: 2^(bits-1) - 1."""
    return 2 ** (bits - 1) - 1


def quantize_tanh(u: Tensor, alpha: Tensor, bits: int) -> Tensor:
    """Released Q-SNN membrane rule: alpha * round(clip(tanh(u) / alpha, -1, 1) * L) / L.

    ``u`` any shape; ``alpha`` scalar range (no gradient). The result lies in [-alpha, alpha] on 2L + 1 symmetric
    levels with L = 2^(bits-1) - 1. alpha = 0 (all-zero input) gives zeros.
    """
    levels = symmetric_levels(bits)
    safe = alpha.clamp_min(torch.finfo(u.dtype).tiny)
    scaled = (torch.tanh(u) / safe).clamp(-1, 1) * levels
    return alpha * round_ste(scaled) / levels


def quantize_power_of_two(u: Tensor, log2_step: int, bits: int) -> Tensor:
    """Exactly deployable membrane rule: step * clip(floor(u / step + 1/2), -L, L), step = 2^log2_step.

    Straight-through inside the clip range, zero gradient outside. Rounds half up, as an integer shift does.
    """
    levels = symmetric_levels(bits)
    step = 2.0**log2_step
    return floor_ste(u / step + 0.5).clamp(-levels, levels) * step
