"""Bounds of edges, which :mod:`.check` proves, and what all their proofs share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import LoweringError

__all__ = ["Range", "ends", "within_int32"]

INT32_MAX = 2**31 - 1

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Range:
    """Kind of an edge (input, spikes, counts, current, stream, logits) and per-channel bounds ``low``, ``high`` (C,).

    For a :class:`~bitspike.deploy.ir.Lif`, ``potential_low`` and ``potential_high`` bound the membrane before
    the reset, bias included, and ``narrow`` says per channel whether it fits 16 bits; elsewhere they are None.
    """

    kind: str
    low: Array
    high: Array
    potential_low: Array | None = None
    potential_high: Array | None = None
    narrow: NDArray[np.bool_] | None = None


def ends(factor: Array, source: Range) -> tuple[Array, Array]:
    """Least and largest product of ``factor`` (C,), or (..., C), with the source."""
    products = np.stack([factor * source.low, factor * source.high])
    return products.min(0), products.max(0)


def within_int32(where: str, low: Array, high: Array) -> tuple[Array, Array]:
    """The bounds (C,) themselves; LoweringError if 32 bits do not hold them."""
    if low.min() < -INT32_MAX or high.max() > INT32_MAX:
        channel = int(np.argmax(np.maximum(-low, high)))
        raise LoweringError(f"{where}: channel {channel} reaches [{low[channel]}, {high[channel]}], beyond 32 bits")
    return low, high
