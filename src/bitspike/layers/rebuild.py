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

    def repeat(self, branch: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """``branch(x)`` as it was then; its buffers and the generators stay as they are now."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        with torch.random.fork_rng([] if self.device_random is None else [self.device]):
            torch.set_rng_state(self.host_random)
            if self.device_random is not None:
                torch.cuda.set_rng_state(self.device_random, self.device)
            with torch.autocast(**self.autocast):
                output: Tensor = functional_call(branch, parameters | buffers, (x,))
        return output


def rebuilt_chain(branches: Sequence[nn.Module], fixed: FixedPoint, x: Tensor) -> tuple[Tensor, Tensor]:
    """The last two states (float64) of the chain that starts from (x, x), as ``stored_chain`` gives them.

    Both passes must compute the same bits, which they do where the backend is deterministic. BitspikeError in the
    backward pass where the first two states, once rebuilt, are not equal: then the gradients would be wrong.
    """
    parameters = list({id(p): p for branch in branches for p in branch.parameters()}.values())
    position = {id(p): index for index, p in enumerate(parameters)}
    named = [{name: position[id(p)] for name, p in branch.named_parameters()} for branch in branches]
    older, newer = _Rebuilt.apply(x, list(branches), named, fixed, *parameters)
    return older, newer


class _Rebuilt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branches: list[nn.Module],
        named: list[dict[str, int]],
        fixed: FixedPoint,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """named: per branch, the names of its parameters and where they stand among ``parameters``."""
        ctx.branches, ctx.named, ctx.fixed, ctx.dtype, ctx.circumstances = branches, named, fixed, x.dtype, []
        older = newer = fixed(x)
        for branch in branches:
            ctx.circumstances.append(Circumstances.now(branch, x.device))
            older, newer = newer, average_step(older, newer, fixed.around(branch, x.dtype)(newer))
        ctx.save_for_backward(older, newer, *parameters)
        return older, newer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        older, newer, *parameters = ctx.saved_tensors
        of_older, of_newer = gradients
        totals: list[Tensor | None] = [None] * len(parameters)
        for branch, named, circumstances in reversed(
            list(zip(ctx.branches, ctx.named, ctx.circumstances, strict=True))
        ):
            source = older.detach().requires_grad_()
            own = {name: parameters[index] for name, index in named.items()}
            with torch.enable_grad():
                current = ctx.fixed(circumstances.repeat(branch, own, source.to(ctx.dtype)))
            learned = [index for index in named.values() if parameters[index].requires_grad]
            through, *found = _gradients(current, [source, *(parameters[index] for index in learned)], of_newer)
            for index, gradient in zip(learned, found, strict=True):
                totals[index] = _sum(totals[index], gradient)
            older, newer = unwound_step(older, newer, current.detach()), older
            half = of_newer / 2
            of_older, of_newer = half, of_older + half if through is None else of_older + half + through
        _check(older, newer)
        return (of_older + of_newer).to(ctx.dtype), None, None, None, *totals


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one + other


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
