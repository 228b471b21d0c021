"""3x3 convolution in a quarter of the multiplications, and its gradients the same way; channels stand last in memory.

Points of tiles are made and used block by block, in a few megabytes. The input is kept for backward as bits where they say all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..saved_bits import keep, kept, records
from .memory import DTYPES, kernels, traced

__all__ = ["refusal", "run"]


def refusal(x: Tensor, weight: Tensor) -> str | None:
    """Why the kernels cannot take these tensors, None where they can."""
    if traced(x):
        return "someone watches which operators run, and a convolution is one"
    if x.device.type != "cpu" or weight.device.type != "cpu":
        return f"there is no kernel for {x.device.type}"
    if x.dtype not in DTYPES or weight.dtype != x.dtype:
        return f"there is no kernel for {x.dtype} and weights of {weight.dtype}"
    return None


def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``ops.winograd_conv2d``: ``x`` (N, C, H, W), ``weight`` (M, C, 3, 3) to (N, M, H, W), channels last in memory."""
    if not records(x, weight, bias):
        return _convolve(_channels_last(x), weight, bias, turned=False)
    out: Tensor = _Winograd.apply(x, weight, bias)
    return out


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = _channels_last(x)
        keep(ctx, x if ctx.needs_input_grad[1] else None, weight)
        return _convolve(x, weight, bias, turned=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = _channels_last(gradients[0])
        x, weight = kept(ctx)
        by_x = _convolve(gradient, weight, None, turned=True) if ctx.needs_input_grad[0] else None
        by_weight = None if x is None else _by_weight(x, gradient)
        return by_x, by_weight, gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, turned: bool) -> Tensor:
    """``turned``: from the outputs of ``weight`` (M, C, 3, 3) to its inputs, each 3x3 by 180 degrees: the adjoint."""
    samples, inputs, height, width = x.shape
    outputs, strides = (weight.shape[1], (9, 9 * weight.shape[1])) if turned else (len(weight), (9 * inputs, 9))
    out = torch.empty(
        (samples, outputs, height, width), dtype=x.dtype, memory_format=torch.channels_last, device=x.device
    )
    if out.numel():
        weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
        kernels.winograd_forward(
            x.data_ptr(),
            weight.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            out.data_ptr(),
            samples,
            height,
            width,
            inputs,
            outputs,
            *strides,
            turned,
            x.dtype == torch.float64,
            torch.get_num_threads(),
        )
    return out


def _by_weight(x: Tensor, gradient: Tensor) -> Tensor:
    samples, inputs, height, width = x.shape
    out = x.new_zeros((gradient.shape[1], inputs, 3, 3))
    if x.numel() and gradient.numel():
        kernels.winograd_by_weights(
            x.data_ptr(),
            gradient.data_ptr(),
            out.data_ptr(),
            samples,
            height,
            width,
            inputs,
            gradient.shape[1],
            x.dtype == torch.float64,
            torch.get_num_threads(),
        )
    return out
