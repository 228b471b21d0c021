"""Weight quantizers: parametrizations whose forward is ``integers * scale``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops import (
    Precision,
    clipped_sign,
    error_decay_sign,
    identity_sign,
    power_of_two_scale,
    round_ste,
    standardize,
    symmetric_levels,
)

__all__ = ["PlainSign", "StandardizedBinarizer", "StandardizedSign", "StraightThroughSign", "SymmetricUniform"]


class _WeightQuantizer(nn.Module):
    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        raise TypeError(f"{type(self).__name__} gives no integers")

    def forward(self, weight: Tensor) -> Tensor:
        integers, scale = self.integers(weight)
        return integers * scale


class StandardizedBinarizer(_WeightQuantizer):
    """Q-SNN weights: sign of the standardised weight times a power of two per output channel.

    Backward of the sign is k * t * (1 - tanh^2(t w)); ``set_progress`` moves k and t along their schedule.
    """

    k: Tensor
    t: Tensor
    precision = Precision(bits=1, levels=2, has_zero=False, granularity="output channel, power of two")

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("k", torch.tensor(10.0), persistent=False)
        self.register_buffer("t", torch.tensor(0.1), persistent=False)

    def set_progress(self, k: float, t: float) -> None:
        """Set the estimator's amplitude k and slope t."""
        self.k.fill_(k)
        self.t.fill_(t)

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        standardized = standardize(weight)
        return error_decay_sign(standardized, self.k, self.t), power_of_two_scale(standardized)


class StandardizedSign(_WeightQuantizer):
    """BESTformer weights: sign of the standardised weight, -1 or +1 and no scale, which batch norm supplies.

    Backward of the sign is the identity, of the standardisation the exact gradient.
    """

    precision = Precision(bits=1, levels=2, has_zero=False, granularity="none, always 1")

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return identity_sign(standardize(weight)), torch.ones((), dtype=weight.dtype, device=weight.device)


class PlainSign(_WeightQuantizer):
    """sign(W) times s = mean |W| per output channel; d(s sign(W)) / dW = s 1[|W| <= 1]. Q-SNN's baseline."""

    precision = Precision(bits=1, levels=2, has_zero=False, granularity="output channel, real")

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scale = weight.detach().flatten(1).abs().mean(1).view(-1, *[1] * (weight.dim() - 1))
        return clipped_sign(weight, self.gain(scale)), scale

    def gain(self, scale: Tensor) -> Tensor:
        """Factor on the gradient of the sign, inside the clip range."""
        return torch.ones_like(scale)


class StraightThroughSign(PlainSign):
    """sign(W) times s = mean |W| per output channel, with d(s sign(W)) / dW = 1[|W| <= 1]: no factor s."""

    def gain(self, scale: Tensor) -> Tensor:
        return 1 / torch.where(scale > 0, scale, torch.ones_like(scale))


class SymmetricUniform(_WeightQuantizer):
    """round(L W / m) / L * m with m = max |W| per layer and L = 2^(bits-1) - 1; straight-through.

    The released Q-SNN code takes the signed maximum and does not clamp, which overflows for weights below -max;
    max |W| is the safe reading of the same rule.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.bits = bits
        self.precision = Precision(bits=bits, levels=2**bits - 1, has_zero=True, granularity="layer")

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        largest = symmetric_levels(self.bits)
        maximum = weight.detach().abs().amax()
        scale = torch.where(maximum > 0, maximum, torch.ones_like(maximum)) / largest
        return round_ste(weight / scale).clamp(-largest, largest), scale

    def extra_repr(self) -> str:
        return f"bits={self.bits}"
