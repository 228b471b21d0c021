"""A chain of branches that can be run backwards: every state is a branch of the last one plus the mean of the last two.

With states s[-1] = older, s[0] = newer and branches B::

    s[k+1] = B[k](s[k]) + (s[k-1] + s[k]) / 2          s[k-1] = 2 (s[k+1] - B[k](s[k])) - s[k]

so the last two states determine all earlier ones. Source: BESTformer (IJCAI 2025, arXiv 2501.05904), whose two streams
x0, x1 are two states in a row. Going back doubles every rounding error at each branch, and a spike of a branch that is
decided otherwise on the way back makes it much worse. :class:`FixedPoint` removes rounding altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from .quantize import round_ste

__all__ = ["FixedPoint", "average_chain", "average_step", "unwound_chain", "unwound_step"]

Branch = Callable[[Tensor], Tensor]

SIGNIFICAND_BITS = 52  # of float64, one of its 53 left for sums on the way
INTEGER_BITS = 10  # states stay below 1024
SMALLEST_FRACTION = 16


def average_step(older: Tensor, newer: Tensor, current: Tensor) -> Tensor:
    """The next state: ``current``, which the branch gave for ``newer``, plus the mean of the last two states."""
    return current + (older + newer) / 2


def unwound_step(newer: Tensor, newest: Tensor, current: Tensor) -> Tensor:
    """The state before ``newer``, from the two that follow it: the inverse of :func:`average_step`."""
    return 2 * (newest - current) - newer


def average_chain(branches: Sequence[Branch], older: Tensor, newer: Tensor) -> tuple[Tensor, Tensor]:
    """The last two states after all ``branches``, of any shape that these keep."""
    for branch in branches:
        older, newer = newer, average_step(older, newer, branch(newer))
    return older, newer


def unwound_chain(branches: Sequence[Branch], older: Tensor, newer: Tensor) -> tuple[Tensor, Tensor]:
    """The first two states from the last two: the inverse of :func:`average_chain`, up to rounding."""
    for branch in reversed(branches):
        older, newer = unwound_step(older, newer, branch(older)), older
    return older, newer


@dataclass(frozen=True)
class FixedPoint:
    """Multiples of 2^-``fraction_bits`` in float64, straight-through: on these a chain and its inverse do not round.

    Each branch halves the grid once. A chain of n branches therefore starts from, and adds, multiples of 2^-(42 - n): its
    last states are multiples of 2^-42, which float64 holds exactly, and all sums of theirs, up to 1024.
    """

    fraction_bits: int

    @classmethod
    def of_chain(cls, branches: int) -> FixedPoint:
        """The finest grid for this many branches. ConfigError where it would be coarser than 2^-16."""
        fraction = SIGNIFICAND_BITS - INTEGER_BITS - branches
        if fraction < SMALLEST_FRACTION:
            longest = SIGNIFICAND_BITS - INTEGER_BITS - SMALLEST_FRACTION
            raise ConfigError(f"a reversible chain has {branches} branches, accepted: up to {longest}")
        return cls(fraction)

    def __call__(self, x: Tensor) -> Tensor:
        """``x``, of any floating type, on the grid in float64; the gradient is passed on as it is."""
        unit = 2.0**self.fraction_bits
        return round_ste(x.to(torch.float64) * unit) / unit

    def around(self, branch: Branch, dtype: torch.dtype) -> Branch:
        """``branch``, which computes in ``dtype``, as one from states on the grid to currents on the grid."""
        return lambda state: self(branch(state.to(dtype)))
