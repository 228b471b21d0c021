"""Linear maps over time: every step to every step, or only the last k inputs.

Source: "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies" (NeurIPS 2023, arXiv
2304.12760). Without a reset, the membranes of T steps are a linear map of the T currents::

    h[t] = sum_j W[t, j] x[j]

A causal map of order k has W[t, j] = 0 for j > t and for j <= t - k. Its band is held as taps (k, T) with
taps[i, t] = W[t, t - k + 1 + i]: the last one multiplies the current of step t itself. Taps (k, 1) are shared by all steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["band_matrix", "band_taps", "causal_filter", "mix_steps"]


def mix_steps(current: Tensor, matrix: Tensor) -> Tensor:
    """h (T, N, ...) for ``current`` (T, N, ...) and ``matrix`` (T, T), one row per output step."""
    return (matrix @ current.flatten(1)).view(current.shape) if current.dim() > 1 else matrix @ current


def band_taps(matrix: Tensor, order: int) -> Tensor:
    """Taps (order, T) of the lower band of ``matrix`` (T, T); places before the first step are 0."""
    padded = F.pad(matrix, (order - 1, 0))
    return torch.stack([padded.diagonal(i) for i in range(order)])


def band_matrix(taps: Tensor, steps: int) -> Tensor:
    """The (steps, steps) matrix of ``taps`` (k, steps) or (k, 1): what :func:`causal_filter` computes, as a product."""
    order = len(taps)
    rows = torch.arange(steps, device=taps.device)
    lag = rows[:, None] - rows  # [t, j]: how long ago input j was at step t
    values = taps.expand(order, steps)[(order - 1 - lag).clamp(0, order - 1), rows[:, None]]
    return values.where((lag >= 0) & (lag < order), torch.zeros_like(values))


class _CausalFilter(torch.autograd.Function):
    """One product and one sum per tap, in the order of the taps whatever the length: steps equal sequences bit for bit."""

    @staticmethod
    def forward(ctx: Any, window: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(window, taps)
        shaped = _per_step(taps, window)
        steps = len(window) - len(taps) + 1
        h = shaped[0] * window[:steps]
        for i in range(1, len(taps)):
            h += shaped[i] * window[i : i + steps]
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,), (window, taps) = gradients, ctx.saved_tensors
        shaped = _per_step(taps, window)
        steps = len(gradient)
        by_window = torch.zeros_like(window)
        by_taps = []
        for i in range(len(taps)):
            by_window[i : i + steps] += shaped[i] * gradient
            by_step = (gradient * window[i : i + steps]).reshape(steps, -1).sum(1) if gradient.numel() else taps[i] * 0
            by_taps.append(by_step if taps.shape[1] > 1 else by_step.sum(0, keepdim=True))
        return by_window, torch.stack(by_taps)


def causal_filter(current: Tensor, taps: Tensor, past: Tensor | None = None) -> Tensor:
    """h[t] = sum_i taps[i, t] x[t - k + 1 + i], (T, N, ...), for ``current`` x (T, N, ...) and ``taps`` (k, T) or (k, 1).

    past: the k - 1 inputs before the first (k - 1, N, ...), oldest first; None stands for zeros. The cost is k products
    per output, not T; the bits of an output do not depend on T, N or on how a sequence is cut into calls.
    """
    if past is None:
        past = current.new_zeros(len(taps) - 1, *current.shape[1:])
    h: Tensor = _CausalFilter.apply(torch.cat([past, current]), taps)
    return h


def _per_step(taps: Tensor, window: Tensor) -> Tensor:
    return taps.view(*taps.shape, *[1] * (window.dim() - 1))
