"""Integer outputs of a spiking neuron, and the binary micro-steps that stand for them.

Sources: "Adaptive Spiking Neurons for Vision and Language Modeling" (arXiv 2604.12365) for the movable window; with the
window at 0, the integer-valued neuron of "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for
High-performance and Energy-efficient Object Detection" (ECCV 2024, arXiv 2407.20708).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["integer_levels", "micro_steps", "window_gradient_scale"]


class _IntegerLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, shift: Tensor, largest: int, gradient_scale: float) -> Tensor:
        rest = shift.ceil()
        ctx.save_for_backward((u >= rest) & (u <= rest + largest))
        ctx.gradient_scale = gradient_scale
        return u.round().clamp(rest, rest + largest)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (gradient,), (inside,) = gradients, ctx.saved_tensors
        by_u = gradient * inside
        by_shift = (gradient - by_u).sum() * ctx.gradient_scale if ctx.needs_input_grad[1] else None
        return by_u, by_shift, None, None


def integer_levels(u: Tensor, shift: Tensor, largest: int, gradient_scale: float = 1.0) -> Tensor:
    """clip(round(u), ceil(shift), ceil(shift) + largest), ties of the rounding to even.

    u: any shape; shift: scalar, the lower end of the window, rounded up to an integer so that training and spikes agree;
    largest: D. Backward is straight-through: d/du is 1 where u lies in the window and 0 outside; d/dshift is
    ``gradient_scale`` where u lies outside and 0 inside.
    """
    levels: Tensor = _IntegerLevels.apply(u, shift.to(u.dtype), largest, gradient_scale)
    return levels


def window_gradient_scale(count: int, largest: int) -> float:
    """1 / sqrt(count * largest) for ``count`` outputs, as for learned step sizes (arXiv 1902.08153, section 2.2)."""
    return (max(count, 1) * largest) ** -0.5


def micro_steps(counts: Tensor, largest: int) -> Tensor:
    """Spikes (T * largest, N, ...), 0 or 1, whose sums over each ``largest`` micro-steps are ``counts`` (T, N, ...).

    counts: integer-valued, 0 to ``largest``; a count of n fires in the first n micro-steps.
    """
    order = torch.arange(largest, device=counts.device, dtype=counts.dtype)
    fired = counts[:, None] > order.view(1, -1, *[1] * (counts.dim() - 1))
    return fired.to(counts.dtype).flatten(0, 1)
