"""Rounding with straight-through gradients, and the membrane quantizers built on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["floor_ste", "quantize_power_of_two", "quantize_tanh", "round_ste", "shift_round", "symmetric_levels"]


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Shift(torch.autograd.Function):
    """clip(floor(x / unit + half), -L, L) * unit in one pass; gradient 1 inside the clip range, 0 outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, unit: Tensor | float, half: Tensor | float, levels: int) -> Tensor:
        steps = (x / unit).add_(half).floor_()
        ctx.save_for_backward(steps.abs() <= levels)
        return steps.clamp_(-levels, levels).mul_(unit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return gradients[0] * ctx.saved_tensors[0], None, None, None


def round_ste(x: Tensor) -> Tensor:
    """Nearest integer (ties to even); gradient 1."""
    result: Tensor = _Round.apply(x)
    return result


def floor_ste(x: Tensor) -> Tensor:
    """Floor; gradient 1."""
    result: Tensor = _Floor.apply(x)
    return result


def shift_round(x: Tensor, unit: Tensor | float, half: Tensor | float, levels: int) -> Tensor:
    """clip(floor(x / unit + half), -levels, levels) * unit; gradient 1 inside the clip range, 0 outside.

    With a power-of-two ``unit`` and half = 1/2 this is an integer's rounding right shift; ``unit`` and ``half`` may be
    tensors that broadcast, and get no gradient.
    """
    result: Tensor = _Shift.apply(x, unit, half, levels)
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
    return shift_round(u, 2.0**log2_step, 0.5, symmetric_levels(bits))
