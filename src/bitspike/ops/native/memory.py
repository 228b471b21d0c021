"""How kernels see tensors: rows of numbers, one row per step, in whatever order the axes of a step lie in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..surrogate import ATan, Rectangle, Sigmoid, Surrogate, Triangle

try:
    from ... import _training
except ImportError as error:
    raise ImportError(
        "bitspike._training, the compiled training kernels, is missing; build the package again: pip install -e ."
    ) from error

kernels: Any = _training
__all__ = ["SURROGATES", "empty_rows", "kernel_of", "kernels", "like_rows", "once", "refusal", "rows", "traced"]

DTYPES = (torch.float32, torch.float64)
SURROGATES = {  # number of the kernel, and the one number it depends on
    Triangle: (0, "width"),
    Sigmoid: (1, "slope"),
    ATan: (2, "slope"),
    Rectangle: (3, "width"),
}


def refusal(current: Tensor, surrogate: Surrogate | None) -> str | None:
    """Why no kernel takes this current or surrogate, None where one does."""
    if current.dtype not in DTYPES:
        return f"there is no kernel for {current.dtype}"
    if current.layout != torch.strided:
        return f"there is no kernel for {current.layout}"
    if surrogate is not None and type(surrogate) not in SURROGATES:
        return f"there is no kernel for the surrogate {type(surrogate).__name__}"
    return None


def kernel_of(surrogate: Surrogate | None) -> tuple[int, float]:
    """Number and shape of the surrogate in the kernels; of None, one that is not used."""
    if surrogate is None:
        return 0, 1.0
    number, parameter = SURROGATES[type(surrogate)]
    return number, float(getattr(surrogate, parameter))


def rows(sequence: Tensor) -> Tensor:
    """``sequence`` (T, N, ...) itself where every step fills one piece of memory, whatever lies between steps; else a copy."""
    if sequence.is_contiguous() or not sequence.numel():
        return sequence.contiguous()
    dense = _step_strides(torch.empty_like(sequence[0])[None]) == _step_strides(sequence)
    return sequence if dense else sequence.contiguous()


def empty_rows(sequence: Tensor) -> Tensor:
    """A new tensor of its shape, steps laid out as those of ``sequence``, which is in rows, one right after the other."""
    if sequence.is_contiguous():
        return torch.empty_like(sequence)
    step = sequence.numel() // len(sequence)
    return sequence.new_empty_strided(sequence.shape, (step, *sequence.stride()[1:]))


def like_rows(tensor: Tensor, sequence: Tensor) -> Tensor:
    """``tensor`` with steps laid out as those of ``sequence``, which is in rows and has its shape: itself or a copy."""
    if tensor.is_contiguous() and sequence.is_contiguous():
        return tensor
    return tensor if _step_strides(tensor) == _step_strides(sequence) else empty_rows(sequence).copy_(tensor)


def traced(current: Tensor) -> bool:
    """Whether someone watches which operators run on ``current``: they see registered operators only."""
    return torch.compiler.is_compiling() or type(current) is not Tensor or torch._C._len_torch_dispatch_stack() > 0


def once(gradients: tuple[Tensor | None, ...], *sources: Tensor | None) -> tuple[Tensor | None, ...]:
    """``gradients``, which kernels made of ``sources`` outside of any graph: differentiating them again is an error."""
    if not torch.is_grad_enabled():
        return gradients
    return tuple(None if gradient is None else _Once.apply(gradient, *sources) for gradient in gradients)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError(
            "fused neurons have no second derivative; inside reference_only() the reference runs, which has"
        )


def _step_strides(sequence: Tensor) -> list[int]:
    """Strides within a step, of the axes longer than 1; those of the others mean nothing."""
    axes = list(zip(sequence.shape, sequence.stride(), strict=True))[1:]
    return [stride for size, stride in axes if size != 1]
