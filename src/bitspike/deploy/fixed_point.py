"""Fixed-point numbers of streams: per-channel integers for :class:`~bitspike.deploy.ir.Stream`.

A stream of b bits counts in steps of ``scale``, a power of two that is chosen so that the largest value to be expected
fits. What is to be expected of a current follows from its batch norm, whose output has mean beta and standard
deviation |gamma|: no data are needed, and training moves the steps along. Larger values saturate, in the exact forward
as in the deployed network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import Synapse
from ..ops import round_ste, symmetric_levels
from .edges import Edge
from .fold import Source

__all__ = ["FixedPoint", "expected_current", "fixed_point", "power_of_two_step"]

DEVIATIONS = 8.0  # of a current from its mean that a stream has room for
LEAST_STEP = 2.0**-14
PRODUCT_LIMIT = 2.0**28  # of each of up to five summands, so that their sum and its rounding stay within 31 bits
MOST_SHIFT = 30


@dataclass(frozen=True)
class FixedPoint:
    """Integer-valued float64 tensors: multiplier (sources, S, C), bias, shift (C,)."""

    multiplier: Tensor
    bias: Tensor
    shift: Tensor


def expected_current(current: object, source: Source, edge: Edge) -> Tensor:
    """Largest |real value| to be expected of a source, (C,) or ()."""
    if source.weight is None:
        return torch.as_tensor(edge.expected).detach()
    bound = (source.gain.abs() * source.reach + source.offset.abs()).detach()
    if not isinstance(current, Synapse):
        return bound
    norm = current.norm
    return torch.minimum(bound, (norm.bias.abs() + DEVIATIONS * norm.weight.abs()).detach().float())


def power_of_two_step(expected: Tensor, bits: int) -> Tensor:
    """The least power of two whose ``bits``-bit multiples reach all of ``expected``; a float64 scalar."""
    needed = expected.detach().double().amax() / symmetric_levels(bits)
    return torch.exp2(needed.clamp_min(LEAST_STEP).log2().ceil())


def fixed_point(sources: Sequence[Source], channels: int, scale: Tensor) -> FixedPoint:
    """Multipliers, bias and shift of ``sum_i (gain_i · source_i + offset_i) / scale``, with gradients.

    A source's gain is (C,), a scalar, or (S, C) with one per step. The shift is as large as 31 bits allow. A channel whose
    gain is so large that no integer could hold its product counts for less: its stream saturates all the same.
    """
    gains, offsets = [], []
    for source in sources:
        gain, offset = source.gain.double() / scale, source.offset.double() / scale
        gain = torch.atleast_2d(gain).expand(-1, channels)
        extent = torch.maximum(gain.detach().abs().amax(0) * source.reach, offset.detach().abs())
        less = (PRODUCT_LIMIT / extent.clamp_min(1e-30)).clamp_max(1.0)
        gains.append(gain * less)
        offsets.append(offset * less)
    steps = max(len(gain) for gain in gains)
    stacked = torch.stack([gain.expand(steps, channels) for gain in gains])
    reaches = [gain.detach().abs().amax(0) * s.reach for gain, s in zip(gains, sources, strict=True)]
    largest = torch.stack([*reaches, *(offset.detach().abs().expand(channels) for offset in offsets)]).amax(0)
    shift = (PRODUCT_LIMIT / largest.clamp_min(1e-30)).log2().floor().clamp(0, MOST_SHIFT)
    unit = torch.exp2(shift)
    bias: Tensor = sum(offsets, torch.zeros(channels, dtype=torch.float64, device=unit.device))
    return FixedPoint(round_ste(stacked * unit), round_ste(bias * unit), shift)
