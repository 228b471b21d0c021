"""Neurons with a leak on a GPU: one launch forward, one backward, whatever the number of steps.

Membranes are float32 (float64 for float64 currents), also where currents are half precision. For backward are kept the
current, one bit per spike, and the membrane of every eighth step; the others are computed again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native.memory import empty_rows, kernel_of, like_rows, rows, traced
from ..programs import LeakyProgram
from . import runtime
from .runtime import OPTIONS, SEGMENT, block_size, device_of, kernels, membrane_dtype, segment_length

__all__ = ["refusal", "run"]

HARD = {"hard": True, "soft": False}
Settings = tuple[float, float, bool, float, int, float, bool, bool]  # leak and gain to spatial, see _leaky
Kept = tuple[Tensor, Tensor, Tensor]


def refusal(current: Tensor, program: LeakyProgram) -> str | None:
    """Why the kernels cannot run ``program`` on ``current``, None where they can."""
    if program.kind not in HARD:
        return f"there is no GPU kernel for {program.kind} neurons"
    for name, value in (("leak", program.leak), ("gain", program.gain)):
        if isinstance(value, Tensor) and (value.dim() or value.device != current.device):
            return f"the {name} is not a scalar on the device of the current"
    return runtime.refusal(current, program.surrogate)


def run(current: Tensor, program: LeakyProgram) -> Tensor:
    """Spikes (T, N, ...) of ``program`` for ``current`` (T, N, ...), in its dtype, steps laid out in memory like its own.

    Sums over neurons, for a learned leak or gain, have a fixed order: two runs give the same bits.
    """
    leak_value, leak = _split(program.leak)
    gain_value, gain = _split(program.gain)
    settings = (
        leak_value,
        gain_value,
        HARD[program.kind],
        program.threshold,
        *kernel_of(program.surrogate),
        program.detach_reset,
        program.spatial,
    )
    graph = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (current, leak, gain))
    if traced(current):
        spikes: Tensor = _leaky(current, leak, gain, *settings, graph)[0]
        return spikes
    if graph:
        fired: Tensor = _Leaky.apply(current, leak, gain, settings)
        return fired
    return _forward(rows(current), leak, gain, settings, False)[0]


def _split(value: float | Tensor) -> tuple[float, Tensor | None]:
    return (0.0, value) if isinstance(value, Tensor) else (value, None)


class _Leaky(torch.autograd.Function):
    """The operator below without its cost per call."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, leak: Tensor | None, gain: Tensor | None, settings: Settings) -> Tensor:
        current = rows(current)
        spikes, bits, carries = _forward(current, leak, gain, settings, True)
        ctx.save_for_backward(current, bits, carries, leak, gain)
        ctx.settings = settings
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        current, bits, carries, leak, gain = ctx.saved_tensors
        by_current, sums = _backward(gradients[0], current, bits, carries, leak, gain, ctx.settings)
        return by_current, *_scalars(sums, leak, gain), None


@torch.library.custom_op("bitspike::leaky_triton", mutates_args=())
def _leaky(
    current: Tensor,
    leak: Tensor | None,
    gain: Tensor | None,
    leak_value: float,
    gain_value: float,
    hard: bool,
    threshold: float,
    surrogate: int,
    shape: float,
    detach_reset: bool,
    spatial: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes; their bits (ceil(T / 8), features), bit k of a byte for step k of 8; membranes at the start of later eights."""
    settings = (leak_value, gain_value, hard, threshold, surrogate, shape, detach_reset, spatial)
    return _forward(rows(current), leak, gain, settings, keep)


@torch.library.custom_op("bitspike::leaky_triton_backward", mutates_args=())
def _leaky_backward(
    gradient: Tensor,
    current: Tensor,
    bits: Tensor,
    carries: Tensor,
    leak: Tensor | None,
    gain: Tensor | None,
    leak_value: float,
    gain_value: float,
    hard: bool,
    threshold: float,
    surrogate: int,
    shape: float,
    detach_reset: bool,
    spatial: bool,
) -> tuple[Tensor, Tensor]:
    """Gradient of the current, and those of leak and gain (2,), float64, 0 where none is learned."""
    settings = (leak_value, gain_value, hard, threshold, surrogate, shape, detach_reset, spatial)
    return _backward(gradient, rows(current), bits, carries, leak, gain, settings)


@_leaky.register_fake
def _(current: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(rows(current), settings[-1])


@_leaky_backward.register_fake
def _(gradient: Tensor, current: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return empty_rows(rows(current)), current.new_empty(2, dtype=torch.float64)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Kept) -> None:
    current, leak, gain, *ctx.settings, _ = inputs
    ctx.save_for_backward(current, *output[1:], leak, gain)
    ctx.mark_non_differentiable(*output[1:])


def _differentiate(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    by_current, sums = _leaky_backward(gradient, *ctx.saved_tensors, *ctx.settings)
    return by_current, *_scalars(sums, *ctx.saved_tensors[3:]), *[None] * (len(ctx.settings) + 1)


_leaky.register_autograd(_differentiate, setup_context=_keep)


def _scalars(sums: Tensor, *learned: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(None if t is None else by.to(t.dtype) for t, by in zip(learned, sums.unbind(), strict=True))


def _outputs(current: Tensor, keep: bool) -> Kept:
    steps = len(current)
    features = current.numel() // steps if steps else 0
    segments = -(-steps // SEGMENT) if keep else 0
    bits = current.new_empty(segments, features, dtype=torch.uint8)
    carries = current.new_empty(max(segments - 1, 0), features, dtype=membrane_dtype(current.dtype))
    return empty_rows(current), bits, carries


def _forward(current: Tensor, leak: Tensor | None, gain: Tensor | None, settings: Settings, keep: bool) -> Kept:
    leak_value, gain_value, hard, threshold, *_ = settings
    spikes, bits, carries = _outputs(current, keep)
    if spikes.numel():
        steps, features = len(current), current.numel() // len(current)
        block = block_size(features, current.dtype)
        with device_of(current):
            kernels("leaky").leaky_forward_kernel[(-(-features // block),)](
                current,
                spikes,
                bits,
                carries,
                leak,
                gain,
                leak_value,
                gain_value,
                threshold,
                steps,
                features,
                current.stride(0),
                HARD=hard,
                SAVE=keep,
                SEGMENT=segment_length(steps),
                BLOCK=block,
                **OPTIONS,
            )
    return spikes, bits, carries


def _backward(
    gradient: Tensor,
    current: Tensor,
    bits: Tensor,
    carries: Tensor,
    leak: Tensor | None,
    gain: Tensor | None,
    settings: Settings,
) -> tuple[Tensor, Tensor]:
    leak_value, gain_value, hard, threshold, surrogate, shape, detach_reset, spatial = settings
    gradient, result = like_rows(gradient, current), empty_rows(current)
    if not result.numel():
        return result, current.new_zeros(2, dtype=torch.float64)
    steps, features = len(current), current.numel() // len(current)
    block = block_size(features, current.dtype)
    programs = -(-features // block)
    learned = leak is not None or gain is not None
    shares = current.new_empty(programs, 2, dtype=membrane_dtype(current.dtype)) if learned else None
    with device_of(current):
        kernels("leaky").leaky_backward_kernel[(programs,)](
            gradient,
            current,
            bits,
            carries,
            result,
            shares,
            leak,
            gain,
            leak_value,
            gain_value,
            threshold,
            shape,
            steps,
            features,
            current.stride(0),
            gradient.stride(0),
            DERIVATIVE=kernels("surrogates").DERIVATIVES[surrogate],
            HARD=hard,
            DETACH=detach_reset,
            FULL=not spatial,
            SEGMENT=segment_length(steps),
            BLOCK=block,
            **OPTIONS,
        )
    if shares is None:
        return result, current.new_zeros(2, dtype=torch.float64)
    return result, shares.sum(0, dtype=torch.float64)
