"""Neurons that see a window of the last currents, on a GPU: one launch forward, one backward, which keeps the current alone.

Computed in float32, or float64 where current, taps or threshold are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..native.memory import empty_rows, kernel_of, like_rows, rows, traced
from ..programs import WindowProgram
from . import runtime
from .runtime import OPTIONS, block_size, device_of, kernels, membrane_dtype, segment_length

__all__ = ["MAX_ORDER", "refusal", "run"]

MAX_ORDER = 32  # the currents of more would not fit into registers


def refusal(current: Tensor, program: WindowProgram) -> str | None:
    """Why the kernels cannot run ``program`` on ``current``, None where they can."""
    if len(program.taps) > MAX_ORDER:
        return f"there is no GPU kernel for more than {MAX_ORDER} taps"
    for name, value in (("taps", program.taps), ("threshold", program.threshold)):
        if value.device != current.device:
            return f"the {name} and the current are on different devices"
        reason = runtime.refusal(value)
        if reason is not None:
            return reason
    return runtime.refusal(current, program.surrogate)


def run(current: Tensor, program: WindowProgram) -> Tensor:
    """Spikes (T, N, ...) of ``program`` for ``current`` (T, N, ...), steps laid out in memory like the current's.

    Their dtype is the widest of current, taps and threshold, as in the reference. Sums over neurons have a fixed order.
    """
    taps, threshold = program.taps, program.threshold
    each = max(taps.shape[1], len(threshold))  # either both belong to a step each, or both to all steps
    taps, threshold, settings = taps.expand(-1, each), threshold.expand(each), kernel_of(program.surrogate)
    if traced(current):
        spikes: Tensor = _window(current, taps, threshold, *settings)
        return spikes
    if torch.is_grad_enabled() and any(t.requires_grad for t in (current, taps, threshold)):
        fired: Tensor = _Window.apply(current, taps, threshold, *settings)
        return fired
    return _forward(rows(current), taps, threshold)


class _Window(torch.autograd.Function):
    """The operator below without its cost per call."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, taps: Tensor, threshold: Tensor, surrogate: int, shape: float) -> Tensor:
        current = rows(current)
        ctx.save_for_backward(current, taps, threshold)
        ctx.settings = surrogate, shape
        return _forward(current, taps, threshold)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *_backward(gradients[0], *ctx.saved_tensors, *ctx.settings), None, None


@torch.library.custom_op("bitspike::window_triton", mutates_args=())
def _window(current: Tensor, taps: Tensor, threshold: Tensor, surrogate: int, shape: float) -> Tensor:
    return _forward(rows(current), taps, threshold)


@torch.library.custom_op("bitspike::window_triton_backward", mutates_args=())
def _window_backward(
    gradient: Tensor, current: Tensor, taps: Tensor, threshold: Tensor, surrogate: int, shape: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _backward(gradient, rows(current), taps, threshold, surrogate, shape)


@_window.register_fake
def _(current: Tensor, taps: Tensor, threshold: Tensor, *_: Any) -> Tensor:
    return _empty(rows(current), taps, threshold)


@_window_backward.register_fake
def _(gradient: Tensor, current: Tensor, taps: Tensor, threshold: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_rows(rows(current)), taps.new_empty(taps.shape), threshold.new_empty(threshold.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    current, taps, threshold, *ctx.settings = inputs
    ctx.save_for_backward(current, taps, threshold)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_window_backward(gradient, *ctx.saved_tensors, *ctx.settings), None, None


_window.register_autograd(_differentiate, setup_context=_keep)


def _empty(current: Tensor, taps: Tensor, threshold: Tensor) -> Tensor:
    spikes, dtype = empty_rows(current), _widest(current, taps, threshold)
    return spikes if spikes.dtype == dtype else torch.empty_like(spikes, dtype=dtype)


def _widest(*tensors: Tensor) -> torch.dtype:
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _shape(taps: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    return {"PER_STEP": taps.shape[1] > 1, "DOUBLE": dtype == torch.float64, "ORDER": len(taps)}


def _block(features: int, dtype: torch.dtype, order: int) -> int:
    """Fewer neurons per thread where each takes more registers."""
    return block_size(features, dtype, widest=512 if order <= 4 else 256 if order <= 12 else 128)


def _forward(current: Tensor, taps: Tensor, threshold: Tensor) -> Tensor:
    spikes = _empty(current, taps, threshold)
    if spikes.numel():
        steps, features = len(current), current.numel() // len(current)
        block = _block(features, spikes.dtype, len(taps))
        with device_of(current):
            kernels("window").window_forward_kernel[(-(-features // block),)](
                current,
                taps.contiguous(),
                threshold.contiguous(),
                spikes,
                steps,
                features,
                current.stride(0),
                **_shape(taps, spikes.dtype),
                CHUNK=segment_length(steps),
                BLOCK=block,
                **OPTIONS,
            )
    return spikes


def _backward(
    gradient: Tensor, current: Tensor, taps: Tensor, threshold: Tensor, surrogate: int, shape: float
) -> tuple[Tensor, Tensor, Tensor]:
    gradient, result = like_rows(gradient, current), empty_rows(current)
    if not result.numel():
        return result, taps.new_zeros(taps.shape), threshold.new_zeros(threshold.shape)
    steps, features = len(current), current.numel() // len(current)
    chunk, block = segment_length(steps), _block(features, gradient.dtype, len(taps))
    programs, chunks = -(-features // block), -(-steps // chunk)
    sizes = _shape(taps, gradient.dtype)
    rows_of_sums = chunks * chunk if sizes["PER_STEP"] else chunks
    shares = current.new_empty(programs, rows_of_sums, len(taps) + 1, dtype=membrane_dtype(gradient.dtype))
    with device_of(current):
        kernels("window").window_backward_kernel[(programs,)](
            gradient,
            current,
            taps.contiguous(),
            threshold.contiguous(),
            result,
            shares,
            shape,
            steps,
            features,
            current.stride(0),
            gradient.stride(0),
            DERIVATIVE=kernels("surrogates").DERIVATIVES[surrogate],
            **sizes,
            CHUNK=chunk,
            BLOCK=block,
            **OPTIONS,
        )
    sums = shares.sum(0, dtype=torch.float64)
    sums = (sums[:steps] if sizes["PER_STEP"] else sums.sum(0, keepdim=True)).T
    return result, _like(taps, sums[:-1]), _like(threshold, sums[-1])


def _like(tensor: Tensor, values: Tensor) -> Tensor:
    """``values`` in a tensor of their own, contiguous, in the dtype of ``tensor``."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(values)
