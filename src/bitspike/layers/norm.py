"""Batch normalisation whose statistics cover the global batch, also when several processes share it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BitspikeError
from ..ops import all_mean, rebuild_of, rebuildable
from ..ops.collective import is_shared

__all__ = ["SequenceBatchNorm"]


class SequenceBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d over (T·N, C, H, W): time steps share the statistics.

    With several processes, mean and variance are averaged over them (equal shares of the batch), so a distributed
    run follows the single-process one; works on any device, where torch's own synchronised variant needs a GPU.
    """

    def forward(self, input: Tensor, repeats: int = 1) -> Tensor:
        """``repeats``: how many equal steps ``input`` stands for; they count in the unbiased running variance."""
        if not self.training or (repeats == 1 and not is_shared()):
            return rebuildable(super().forward(input), self._rebuild(input))
        if not is_shared():
            return self._repeated(input, repeats)
        axes = (0, 2, 3)
        x = input if input.dtype == torch.float64 else input.float()
        mean = all_mean(x.mean(axes))
        centred = x - mean.view(1, -1, 1, 1)
        variance = all_mean((centred**2).mean(axes))
        self._track(mean.detach(), variance.detach(), repeats * (x.numel() // x.shape[1]))
        normalised = centred * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        out = normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return out.to(input.dtype)

    def _repeated(self, input: Tensor, repeats: int) -> Tensor:
        """torch's kernel on one step, whose statistics then count for ``repeats`` steps."""
        channels, samples = input.shape[1], input.numel() // input.shape[1]
        mean, variance = (input.new_zeros(channels, dtype=self.weight.dtype) for _ in range(2))
        out = F.batch_norm(input, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        self._track(mean, variance * ((samples - 1) / samples), repeats * samples)  # the kernel left the unbiased one
        return rebuildable(out, self._rebuild(input))

    def _rebuild(self, input: Tensor) -> Callable[[], Tensor]:
        """The output for ``input`` once more, running statistics left alone."""
        x, weight, bias = input.detach(), self.weight.detach(), self.bias.detach()
        mean, variance = (None, None) if self.training else (self.running_mean, self.running_var)
        read = [t for t in (x, weight, bias, mean, variance) if t is not None]
        versions = [t._version for t in read]

        def rebuild() -> Tensor:
            if [t._version for t in read] != versions:
                raise BitspikeError("batch norm or its input was changed in place between forward and backward")
            return F.batch_norm(x, mean, variance, weight, bias, mean is None, 0.0, self.eps)

        return rebuild

    def _track(self, mean: Tensor, variance: Tensor, samples_here: int) -> None:
        samples = samples_here * (torch.distributed.get_world_size() if is_shared() else 1)
        with torch.no_grad():
            momentum = self.momentum if self.momentum is not None else 0.1
            assert self.running_mean is not None and self.running_var is not None
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            unbiased = variance * (samples / max(samples - 1, 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)


def batch_norm_affine(norm: nn.BatchNorm2d | nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """(gain, offset), each (C,): the evaluation-mode map y = gain * x + offset of a batch normalisation."""
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return gain, norm.bias - norm.running_mean * gain


def repeats(x: Tensor) -> int:
    """How often ``x`` (T, N, ...) repeats one stored step: T where it was made by ``expand``, else 1."""
    return x.shape[0] if x.shape[0] > 1 and x.stride(0) == 0 else 1


def over_time(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of (N, ...) to every step of ``x`` (T, N, ...) at once.

    A sequence that repeats one step (made by ``expand``, stride 0 over time) is computed once.
    """
    if (steps := repeats(x)) > 1:
        return _viewed(function(x[0]), lambda once: once.expand(steps, *once.shape))
    shape = x.shape[:2]
    return _viewed(function(x.flatten(0, 1)), lambda merged: merged.unflatten(0, shape))


def _viewed(x: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
    """A view of all of ``x`` that can be made again where ``x`` can."""
    rebuild = rebuild_of(x)
    return rebuildable(view(x), None if rebuild is None else lambda: view(rebuild()))
