"""Convolution, linear map and pooling that keep little of their input for backward.

A spike is kept as one bit, a small multiple of 1 or 1/4 as a byte (:mod:`bitspike.ops.packing`), anything else as it is.
The kernels are torch's, forward and backward, on the same numbers: outputs and gradients are those of
``torch.nn.functional``, bit for bit. Where nothing will be differentiated, and while torch compiles or exports, they are
the functions of torch themselves.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .packing import Packed, pack, unpack

__all__ = ["bit_avg_pool2d", "bit_conv2d", "bit_linear", "bit_max_pool2d"]

Pair = tuple[int, ...]


def bit_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """``F.conv2d``: ``x`` (N, C, H, W) and ``weight`` (M, C / groups, K, K) to (N, M, H', W')."""
    if not records(x, weight, bias):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    x, weight, bias = _autocast(x, weight, bias)
    with _full_precision(x.device.type):
        out: Tensor = _Conv2d.apply(x, weight, bias, (stride, padding, dilation, groups))
    return out


def bit_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``: ``x`` (..., C) and ``weight`` (M, C) to (..., M)."""
    if not records(x, weight, bias):
        return F.linear(x, weight, bias)
    x, weight, bias = _autocast(x, weight, bias)
    with _full_precision(x.device.type):
        out: Tensor = _Linear.apply(x, weight, bias)
    return out


def bit_max_pool2d(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil: bool) -> Tensor:
    """``F.max_pool2d`` of ``x`` (N, C, H, W); which value of a window was the largest is found again in backward."""
    if not records(x):
        return F.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    out: Tensor = _MaxPool2d.apply(x, (kernel, stride, padding, dilation, ceil))
    return out


def bit_avg_pool2d(
    x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil: bool, count_padding: bool, divisor: int | None
) -> Tensor:
    """``F.avg_pool2d`` of ``x`` (N, C, H, W), which keeps nothing."""
    if not records(x):
        return F.avg_pool2d(x, kernel, stride, padding, ceil, count_padding, divisor)
    out: Tensor = _AvgPool2d.apply(x, (kernel, stride, padding, ceil, count_padding, divisor))
    return out


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]) -> Tensor:
        keep(ctx, x if ctx.needs_input_grad[1] else None, weight)
        ctx.geometry, ctx.like = geometry, _shape_of(x)
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        stride, padding, dilation, groups = ctx.geometry
        x, weight = kept(ctx)
        x = _like(ctx.like) if x is None else x
        wanted = ctx.needs_input_grad[:3]
        done = torch.ops.aten.convolution_backward(
            gradients[0], x, weight, [len(weight)], stride, padding, dilation, False, [0, 0], groups, wanted
        )
        return *done, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        keep(ctx, x if ctx.needs_input_grad[1] else None, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        x, weight = kept(ctx)
        by_x = gradient @ weight if ctx.needs_input_grad[0] else None
        rows = gradient.reshape(-1, gradient.shape[-1])
        by_weight = None if x is None else rows.t() @ x.reshape(-1, x.shape[-1])
        return by_x, by_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


class _MaxPool2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[Any, ...]) -> Tensor:
        keep(ctx, x)
        ctx.window = window
        return F.max_pool2d(x, *window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = kept(ctx)
        _, where = torch.ops.aten.max_pool2d_with_indices(x, *ctx.window)
        return torch.ops.aten.max_pool2d_with_indices_backward(gradients[0], x, *ctx.window, where), None


class _AvgPool2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[Any, ...]) -> Tensor:
        ctx.window, ctx.like = window, _shape_of(x)
        return F.avg_pool2d(x, *window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return torch.ops.aten.avg_pool2d_backward(gradients[0], _like(ctx.like), *ctx.window), None


def records(*tensors: Tensor | None) -> bool:
    """Whether a backward pass through these tensors may come, and custom functions may take part in it."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return any(t is not None and t.requires_grad and not t.is_meta for t in tensors)


def _autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """The tensors in the precision that autocast would give these operations."""
    device = next(t for t in tensors if t is not None).device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors)


def _full_precision(device: str) -> AbstractContextManager[Any]:
    """Inside, operations keep the precision of their inputs."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def keep(ctx: Any, x: Tensor | None, *others: Tensor) -> None:
    """Save ``x``, packed where it can be, and the others as they are."""
    packed = None if x is None else pack(x)
    ctx.packed = None if packed is None else (packed.code, packed.shape, packed.stride, packed.dtype)
    ctx.save_for_backward(x if packed is None else packed.data, *others)


def kept(ctx: Any) -> tuple[Tensor, ...]:
    x, *others = ctx.saved_tensors
    return (x if ctx.packed is None else unpack(Packed(x, *ctx.packed)), *others)


def _shape_of(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.stride(), x.dtype, x.device


def _like(shape: tuple[Any, ...]) -> Tensor:
    """A tensor of that shape for kernels which ask for the input but read no value of it; memory not yet touched."""
    size, stride, dtype, device = shape
    return torch.empty_strided(size, stride, dtype=dtype, device=device)
