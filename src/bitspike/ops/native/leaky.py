"""Neurons with a leak: one call forward, one backward.

Only the current is kept for backward, which goes through the steps once more: 4 bytes per neuron and step in float32, and
none of our own where the layer before keeps that tensor anyway.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..programs import LeakyProgram
from . import memory
from .memory import empty_rows, kernel_of, kernels, like_rows, once, rows, traced

__all__ = ["refusal", "run"]

KINDS = {
    "hard": 0,
    "soft": 1,
    "ternary_hard": 2,
    "ternary_soft": 3,
    "integer": 4,
    "reach_hard": 5,
    "reach_soft": 6,
    "adaptive_hard": 7,
    "adaptive_soft": 8,
}
LARGEST = 1 << 22  # integer that a float32 still rounds to by adding and subtracting a constant
Settings = tuple[float, float, int, float, float, float, int, float, bool, bool]  # leak and gain to spatial, see _leaky


def refusal(current: Tensor, program: LeakyProgram) -> str | None:
    """Why the kernels cannot run ``program`` on ``current``, None where they can."""
    for name, value in (("leak", program.leak), ("gain", program.gain)):
        if isinstance(value, Tensor) and (value.dim() or value.device != current.device):
            return f"the {name} is not a scalar on the device of the current"
    if program.kind == "integer" and program.threshold > LARGEST:
        return f"its largest integer is above {LARGEST}"
    if program.spatial and program.kind.startswith("adaptive"):
        return "an adaptive threshold carries gradients to earlier steps, too"
    return memory.refusal(current, program.surrogate)


def run(current: Tensor, program: LeakyProgram) -> Tensor:
    """Spikes (T, N, ...) of ``program`` for ``current`` (T, N, ...), steps laid out in memory like the current's."""
    leak_value, leak = _split(program.leak)
    gain_value, gain = _split(program.gain)
    settings = (
        leak_value,
        gain_value,
        KINDS[program.kind],
        program.threshold,
        program.strength,
        program.decay,
        *kernel_of(program.surrogate),
        program.detach_reset,
        program.spatial,
    )
    spikes: Tensor
    if traced(current):
        spikes = _leaky(current, leak, gain, *settings)
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (current, leak, gain)):
        spikes = _Leaky.apply(current, leak, gain, settings)
    else:
        spikes = _forward(rows(current), leak, gain, settings)
    return spikes


def _split(value: float | Tensor) -> tuple[float, Tensor | None]:
    """A number and no tensor, or a tensor and no number."""
    return (0.0, value) if isinstance(value, Tensor) else (value, None)


class _Leaky(torch.autograd.Function):
    """The operator below without its cost per call, which is that of a whole small layer."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, leak: Tensor | None, gain: Tensor | None, settings: Settings) -> Tensor:
        current = rows(current)
        ctx.save_for_backward(current, leak, gain)
        ctx.settings = settings
        return _forward(current, leak, gain, settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        current, leak, gain = ctx.saved_tensors
        by_current, *sums = _backward(gradients[0], current, leak, gain, ctx.settings)
        scalars = (None if t is None else t.new_tensor(by) for t, by in zip((leak, gain), sums, strict=True))
        return *once((by_current, *scalars), gradients[0], current, leak, gain), None


@torch.library.custom_op("bitspike::leaky", mutates_args=(), device_types="cpu")
def _leaky(
    current: Tensor,
    leak: Tensor | None,
    gain: Tensor | None,
    leak_value: float,
    gain_value: float,
    kind: int,
    threshold: float,
    strength: float,
    decay: float,
    surrogate: int,
    shape: float,
    detach_reset: bool,
    spatial: bool,
) -> Tensor:
    settings = (leak_value, gain_value, kind, threshold, strength, decay, surrogate, shape, detach_reset, spatial)
    return _forward(rows(current), leak, gain, settings)


@torch.library.custom_op("bitspike::leaky_backward", mutates_args=(), device_types="cpu")
def _leaky_backward(
    gradient: Tensor,
    current: Tensor,
    leak: Tensor | None,
    gain: Tensor | None,
    leak_value: float,
    gain_value: float,
    kind: int,
    threshold: float,
    strength: float,
    decay: float,
    surrogate: int,
    shape: float,
    detach_reset: bool,
    spatial: bool,
) -> tuple[Tensor, Tensor]:
    """Gradient of the current, and those of leak and gain (2,), float64, 0 where they are not learned."""
    settings = (leak_value, gain_value, kind, threshold, strength, decay, surrogate, shape, detach_reset, spatial)
    by_current, *sums = _backward(gradient, rows(current), leak, gain, settings)
    return by_current, torch.tensor(sums, dtype=torch.float64)


@_leaky.register_fake
def _(current: Tensor, *_: Any) -> Tensor:
    return empty_rows(rows(current))


@_leaky_backward.register_fake
def _(gradient: Tensor, current: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return empty_rows(rows(current)), current.new_empty(2, dtype=torch.float64)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    current, leak, gain, *ctx.settings = inputs
    ctx.save_for_backward(current, leak, gain)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    current, leak, gain = ctx.saved_tensors
    by_current, sums = _leaky_backward(gradient, current, leak, gain, *ctx.settings)
    scalars = (None if t is None else by.to(t.dtype) for t, by in zip((leak, gain), sums.unbind(), strict=True))
    return by_current, *scalars, *[None] * len(ctx.settings)


_leaky.register_autograd(_differentiate, setup_context=_keep)


def _forward(current: Tensor, leak: Tensor | None, gain: Tensor | None, settings: Settings) -> Tensor:
    leak_value, gain_value, kind, threshold, strength, decay, *_ = settings
    out = empty_rows(current)
    if out.numel():
        kernels.scan_forward(
            current.data_ptr(),
            out.data_ptr(),
            len(current),
            current.numel() // len(current),
            current.stride(0),
            current.dtype == torch.float64,
            kind,
            leak_value if leak is None else leak.item(),
            gain_value if gain is None else gain.item(),
            threshold,
            strength,
            decay,
            torch.get_num_threads(),
        )
    return out


def _backward(
    gradient: Tensor, current: Tensor, leak: Tensor | None, gain: Tensor | None, settings: Settings
) -> tuple[Tensor, float, float]:
    leak_value, gain_value, kind, threshold, strength, decay, surrogate, shape, detach_reset, spatial = settings
    gradient, out = like_rows(gradient, current), empty_rows(current)
    if not out.numel():
        return out, 0.0, 0.0
    by_leak, by_gain = kernels.scan_backward(
        current.data_ptr(),
        gradient.data_ptr(),
        out.data_ptr(),
        len(current),
        current.numel() // len(current),
        current.stride(0),
        gradient.stride(0),
        current.dtype == torch.float64,
        kind,
        leak_value if leak is None else leak.item(),
        gain_value if gain is None else gain.item(),
        threshold,
        strength,
        decay,
        surrogate,
        shape,
        detach_reset,
        spatial,
        leak is not None or gain is not None,
        torch.get_num_threads(),
    )
    return out, by_leak, by_gain
