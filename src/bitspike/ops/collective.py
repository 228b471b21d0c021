"""Statistics over the global batch when several processes share it; the identity in a single process.

Both keep the meaning of one process with the whole batch: with gradients averaged over processes (as DDP does), a
loss of ``all_mean(x)`` has the gradient that the single process would have computed.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_maximum", "all_mean", "is_shared", "leave_processes"]


def is_shared() -> bool:
    """True when more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _AllMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return _mean_over_processes(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return _mean_over_processes(gradients[0])


def _mean_over_processes(x: Tensor) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def all_mean(x: Tensor) -> Tensor:
    """Mean of ``x`` (same shape everywhere) over the processes, differentiable."""
    if not is_shared():
        return x
    result: Tensor = _AllMean.apply(x)
    return result


def all_maximum(x: Tensor) -> Tensor:
    """Largest ``x`` over the processes, element by element, without gradient."""
    if not is_shared():
        return x.detach()
    largest = x.detach().contiguous().clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


def leave_processes() -> None:
    """End the common work of several processes, so that what follows runs in each on its own."""
    if is_shared():
        dist.barrier()
        dist.destroy_process_group()
