"""Neurons that see a window of the last currents: one call forward, one backward, which keeps the current alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..programs import WindowProgram
from . import memory
from .memory import empty_rows, kernel_of, kernels, like_rows, once, rows, traced

__all__ = ["refusal", "run"]


def refusal(current: Tensor, program: WindowProgram) -> str | None:
    """Why the kernels cannot run ``program`` on ``current``, None where they can."""
    for name, value in (("taps", program.taps), ("threshold", program.threshold)):
        if value.dtype != current.dtype or value.device != current.device:
            return f"the {name} and the current are of different dtypes or devices"
    return memory.refusal(current, program.surrogate)


def run(current: Tensor, program: WindowProgram) -> Tensor:
    """Spikes (T, N, ...) of ``program`` for ``current`` (T, N, ...), steps laid out in memory like the current's."""
    taps, threshold, settings = program.taps, program.threshold, kernel_of(program.surrogate)
    spikes: Tensor
    if traced(current):
        spikes = _window(current, taps, threshold, *settings)
    elif torch.is_grad_enabled() and any(t.requires_grad for t in (current, taps, threshold)):
        spikes = _Window.apply(current, taps, threshold, *settings)
    else:
        spikes = _forward(rows(current), taps, threshold)
    return spikes


class _Window(torch.autograd.Function):
    """The operator below without its cost per call."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, taps: Tensor, threshold: Tensor, surrogate: int, shape: float) -> Tensor:
        current = rows(current)
        ctx.save_for_backward(current, taps, threshold)
        ctx.settings = surrogate, shape
        return _forward(current, taps, threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        return *once(_backward(gradients[0], *kept, *ctx.settings), gradients[0], *kept), None, None


@torch.library.custom_op("bitspike::window", mutates_args=(), device_types="cpu")
def _window(current: Tensor, taps: Tensor, threshold: Tensor, surrogate: int, shape: float) -> Tensor:
    return _forward(rows(current), taps, threshold)


@torch.library.custom_op("bitspike::window_backward", mutates_args=(), device_types="cpu")
def _window_backward(
    gradient: Tensor, current: Tensor, taps: Tensor, threshold: Tensor, surrogate: int, shape: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _backward(gradient, rows(current), taps, threshold, surrogate, shape)


@_window.register_fake
def _(current: Tensor, *_: Any) -> Tensor:
    return empty_rows(rows(current))


@_window_backward.register_fake
def _(gradient: Tensor, current: Tensor, taps: Tensor, threshold: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_rows(rows(current)), torch.empty_like(taps), torch.empty_like(threshold)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    current, taps, threshold, *ctx.settings = inputs
    ctx.save_for_backward(current, taps, threshold)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_window_backward(gradient, *ctx.saved_tensors, *ctx.settings), None, None


_window.register_autograd(_differentiate, setup_context=_keep)


def _geometry(current: Tensor, taps: Tensor, threshold: Tensor) -> tuple[Any, ...]:
    """What both kernels take after strides: width of numbers, order, and whether steps share taps and threshold."""
    return current.dtype == torch.float64, len(taps), taps.shape[1] == 1, len(threshold) == 1


def _forward(current: Tensor, taps: Tensor, threshold: Tensor) -> Tensor:
    out = empty_rows(current)
    if out.numel():
        taps, threshold = taps.contiguous(), threshold.contiguous()
        kernels.window_forward(
            current.data_ptr(),
            taps.data_ptr(),
            threshold.data_ptr(),
            out.data_ptr(),
            len(current),
            current.numel() // len(current),
            current.stride(0),
            *_geometry(current, taps, threshold),
            torch.get_num_threads(),
        )
    return out


def _backward(
    gradient: Tensor, current: Tensor, taps: Tensor, threshold: Tensor, surrogate: int, shape: float
) -> tuple[Tensor, Tensor, Tensor]:
    gradient, out = like_rows(gradient, current), empty_rows(current)
    if not out.numel():
        return out, torch.zeros_like(taps), torch.zeros_like(threshold)
    taps, threshold = taps.contiguous(), threshold.contiguous()
    sums = kernels.window_backward(
        current.data_ptr(),
        gradient.data_ptr(),
        taps.data_ptr(),
        threshold.data_ptr(),
        out.data_ptr(),
        len(current),
        current.numel() // len(current),
        current.stride(0),
        gradient.stride(0),
        *_geometry(current, taps, threshold),
        surrogate,
        shape,
        torch.get_num_threads(),
    )
    by_taps = taps.new_tensor(sums[: taps.numel()]).view_as(taps)
    return out, by_taps, threshold.new_tensor(sums[taps.numel() :])
