"""Gradients of a reversible chain whose activations are not stored: states are rebuilt from the last two, branch by branch.

What is kept from the forward pass is the last two states and, per branch, what its outcome also depends on: random
generators, autocast, and buffers such as running statistics. At any time one branch has its activations in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from ..errors import BitspikeError
from ..ops import FixedPoint, average_step, unwound_step

__all__ = ["rebuilt_chain"]


@dataclass(frozen=True)
class Circumstances:
    """What the outcome of a branch depends on, besides its input and its parameters."""

    buffers: dict[str, Tensor]
    host_random: Tensor
    device: torch.device
    device_random: Tensor | None
    autocast: dict[str, Any]

    @classmethod
    def now(cls, branch: nn.Module, device: torch.device) -> Circumstances:
        kind = device.type
        return cls(
            {name: buffer.clone() for name, buffer in branch.named_buffers()},
            torch.get_rng_state(),
            device,
            torch.cuda.get_rng_state(device) if kind == "cuda" else None,
            {
                "device_type": kind,
                "enabled": torch.is_autocast_enabled(kind),
                "dtype": torch.get_autocast_dtype(kind),
                "cache_enabled": torch.is_autocast_cache_enabled(),
            },
        )

    def repeat(self, branch: nn.Module, x: Tensor) -> Tensor:
        """``branch(x)`` as it was then; its buffers and the generators stay as they are now."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        with torch.random.fork_rng([] if self.device_random is None else [self.device]):
            torch.set_rng_state(self.host_random)
            if self.device_random is not None:
                torch.cuda.set_rng_state(self.device_random, self.device)
            with torch.autocast(**self.autocast):
                output: Tensor = functional_call(branch, buffers, (x,))
        return output


def rebuilt_chain(branches: Sequence[nn.Module], fixed: FixedPoint, x: Tensor) -> tuple[Tensor, Tensor]:
    """The last two states (float64) of the chain that starts from (x, x), as ``stored_chain`` gives them.

    Both passes must compute the same bits, which they do where the backend is deterministic. BitspikeError in the
    backward pass where the first two states, once rebuilt, are not equal: then the gradients would be wrong.
    """
    parameters = list({id(p): p for branch in branches for p in branch.parameters()}.values())
    older, newer = _Rebuilt.apply(x, list(branches), fixed, *parameters)
    return older, newer


class _Rebuilt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, branches: list[nn.Module], fixed: FixedPoint, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.branches, ctx.fixed, ctx.dtype, ctx.circumstances = branches, fixed, x.dtype, []
        older = newer = fixed(x)
        for branch in branches:
            ctx.circumstances.append(Circumstances.now(branch, x.device))
            older, newer = newer, average_step(older, newer, fixed(branch(newer.to(x.dtype))))
        ctx.save_for_backward(older, newer, *parameters)
        return older, newer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        older, newer, *parameters = ctx.saved_tensors
        of_older, of_newer = gradients
        learned = [p for p in parameters if p.requires_grad]
        totals: dict[int, Tensor] = {}
        for branch, circumstances in zip(reversed(ctx.branches), reversed(ctx.circumstances), strict=True):
            own = {id(p) for p in branch.parameters()}
            wanted = [p for p in learned if id(p) in own]
            source = older.detach().requires_grad_()
            with torch.enable_grad():
                current = ctx.fixed(circumstances.repeat(branch, source.to(ctx.dtype)))
            through, *found = _gradients(current, [source, *wanted], of_newer)
            for parameter, gradient in zip(wanted, found, strict=True):
                if gradient is not None:
                    known = totals.get(id(parameter))
                    totals[id(parameter)] = gradient if known is None else known + gradient
            older, newer = unwound_step(older, newer, current.detach()), older
            half = of_newer / 2
            of_older, of_newer = half, of_older + half if through is None else of_older + half + through
        _check(older, newer)
        return (of_older + of_newer).to(ctx.dtype), None, None, *(totals.get(id(p)) for p in parameters)


def _gradients(current: Tensor, wanted: list[Tensor], upstream: Tensor) -> Sequence[Tensor | None]:
    if not current.requires_grad:  # a branch may be constant
        return [None] * len(wanted)
    return torch.autograd.grad(current, wanted, upstream, allow_unused=True)


def _check(older: Tensor, newer: Tensor) -> None:
    """The chain began with two equal states; any deviation on the way back tells them apart."""
    if not torch.equal(older, newer):
        raise BitspikeError(
            f"{int((older != newer).sum())} of {older.numel()} values were not rebuilt: the branches did not repeat their "
            "outputs bit for bit, or a stream left the range of ±1024; accepted: activations 'stored'"
        )
