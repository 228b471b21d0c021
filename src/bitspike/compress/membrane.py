"""Membrane quantizers: what a neuron stores between two steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..neurons import Neuron
from ..ops import Precision, all_maximum, quantize_power_of_two, quantize_tanh, symmetric_levels
from .config import Calibration, apply, register_config

__all__ = ["DynamicTanhMembrane", "FreezeMembranes", "FrozenTanhMembrane", "PowerOfTwoMembrane", "freeze_membranes"]

MOMENTUM = 0.1
SMALLEST_RANGE = 2.0**-10  # for layers that never held a charge


def _precision(bits: int, granularity: str) -> Precision:
    if not 2 <= bits <= 16:
        raise ConfigError(f"membrane bits is {bits}, accepted: 2 to 16")
    return Precision(bits=bits, levels=2 * symmetric_levels(bits) + 1, has_zero=True, granularity=granularity)


class DynamicTanhMembrane(nn.Module):
    """The released rule: tanh, then levels between ±alpha with alpha = max |tanh(u)| of this step's whole batch.

    The result depends on the batch, so it has no exact integer form; ``running_alpha`` follows alpha (momentum
    0.1) in training, for :func:`freeze_membranes`.
    """

    running_alpha: Tensor
    log2_step = None

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.precision = _precision(bits, "layer and batch")
        self.register_buffer("running_alpha", torch.tensor(1.0))

    def forward(self, membrane: Tensor) -> Tensor:
        peak = membrane.detach().abs().amax() if membrane.numel() else membrane.new_zeros(())
        alpha = all_maximum(torch.tanh(peak))
        if self.training and membrane.numel():
            with torch.no_grad():
                self.running_alpha.lerp_(alpha.to(self.running_alpha.dtype), MOMENTUM)
        return quantize_tanh(membrane, alpha, self.bits)


class FrozenTanhMembrane(nn.Module):
    """The released rule with a fixed alpha: the same levels for every batch."""

    alpha: Tensor
    log2_step = None

    def __init__(self, bits: int, alpha: float) -> None:
        super().__init__()
        self.bits = bits
        self.precision = _precision(bits, "layer")
        self.register_buffer("alpha", torch.tensor(float(alpha)))

    def forward(self, membrane: Tensor) -> Tensor:
        return quantize_tanh(membrane, self.alpha.to(membrane.dtype), self.bits)


class PowerOfTwoMembrane(nn.Module):
    """The exactly deployable rule: no tanh, a fixed grid of multiples of 2^log2_step, clipped to ±L steps."""

    exponent: Tensor

    def __init__(self, bits: int, log2_step: int) -> None:
        super().__init__()
        self.bits = bits
        self.log2_step: int = log2_step
        self.precision = _precision(bits, "layer, power of two")
        self.register_buffer("exponent", torch.tensor(log2_step))  # travels with the weights

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self.log2_step = int(self.exponent)

    @classmethod
    def covering(cls, bits: int, limit: float) -> PowerOfTwoMembrane:
        """The power-of-two grid whose range ±L·step is nearest to ±limit on a log scale."""
        return cls(bits, round(math.log2(limit / symmetric_levels(bits))))

    def forward(self, membrane: Tensor) -> Tensor:
        return quantize_power_of_two(membrane, self.log2_step, self.bits)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, log2_step={self.log2_step}"


RULES = {
    "power-of-two": lambda dynamic: PowerOfTwoMembrane.covering(
        dynamic.bits, max(dynamic.running_alpha.item(), SMALLEST_RANGE)
    ),
    "tanh": lambda dynamic: FrozenTanhMembrane(dynamic.bits, dynamic.running_alpha.item()),
}


@dataclass(frozen=True)
class FreezeMembranes:
    """Replace dynamic membrane quantizers by batch-independent ones, see :func:`freeze_membranes`."""

    rule: str = "power-of-two"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(f"membrane rule is {self.rule!r}, accepted: {', '.join(RULES)}")


@register_config(FreezeMembranes, version=1, traits=lambda config: frozenset())
def _freeze(model: nn.Module, config: FreezeMembranes, calibration: Calibration) -> None:
    for module in model.modules():
        if isinstance(module, Neuron) and isinstance(module.membrane, DynamicTanhMembrane):
            device = module.membrane.running_alpha.device
            frozen: Any = RULES[config.rule](module.membrane).to(device)
            module.membrane = frozen


def freeze_membranes(model: nn.Module, rule: str = "power-of-two") -> nn.Module:
    """Replace every dynamic membrane quantizer of ``model``, in place, by a batch-independent one.

    rule: "power-of-two" (deployable; range nearest to the running alpha) or "tanh" (same curve, alpha frozen).
    """
    return apply(model, FreezeMembranes(rule))
