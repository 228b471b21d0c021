"""Adaptive spiking neurons: integer-valued neurons whose window of levels moves to where the membranes are.

Source: "Adaptive Spiking Neurons for Vision and Language Modeling" (arXiv 2604.12365). With one learned number a per layer::

    u[t] = h[t-1] + x[t]        s[t] = clip(round(u[t]), a, a + D)        h[t] = leak * (u[t] - s[t])

The output is s, or s / N in the normalised form. Training uses ceil(a), as inference does, so that both agree exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import MembraneQuantizer, Program, integer_levels, window_gradient_scale
from .integer import IntegerLIF, checked_divisor
from .registry import register_neuron

__all__ = ["ASN", "NASN"]


@register_neuron("asn")
class ASN(IntegerLIF):
    """Adaptive spiking neuron: an integer-valued LIF with a learned shift of its window, one per layer.

    The output is ceil(shift) to ceil(shift) + ``largest``; only its distance from ceil(shift) is spikes, the rest is a
    constant. shift: its start. gradient_scale: factor on the gradient of the shift; None: 1 / sqrt(outputs of one step * D).
    Other arguments, and ConfigError, as in :class:`IntegerLIF`.
    """

    def __init__(
        self,
        largest: int = 4,
        *,
        shift: float = 0.0,
        gradient_scale: float | None = None,
        leak: float = 0.5,
        detach_reset: bool = False,
        membrane: MembraneQuantizer | None = None,
    ) -> None:
        super().__init__(largest, leak=leak, detach_reset=detach_reset, membrane=membrane)
        if not math.isfinite(shift):
            raise ConfigError(f"shift is {shift}, accepted: a finite number")
        if gradient_scale is not None and not gradient_scale >= 0:
            raise ConfigError(f"gradient_scale is {gradient_scale}, accepted: 0 or more")
        self.shift = nn.Parameter(torch.tensor(float(shift)))
        self.gradient_scale = gradient_scale

    @property
    def rest(self) -> int:
        return math.ceil(self.shift.item())

    def fire(self, membrane: Tensor) -> Tensor:
        scale = self.gradient_scale
        if scale is None:
            scale = window_gradient_scale(membrane.numel(), self.largest)
        return integer_levels(membrane, self.shift, self.largest, scale)

    def program(self) -> Program | str:
        return "the window of levels is learned"


@register_neuron("nasn")
class NASN(ASN):
    """Normalised adaptive spiking neuron: an adaptive spiking neuron whose output is divided by ``divisor``, D unless given."""

    def __init__(
        self,
        largest: int = 4,
        *,
        divisor: int | None = None,
        shift: float = 0.0,
        gradient_scale: float | None = None,
        leak: float = 0.5,
        detach_reset: bool = False,
        membrane: MembraneQuantizer | None = None,
    ) -> None:
        super().__init__(
            largest, shift=shift, gradient_scale=gradient_scale, leak=leak, detach_reset=detach_reset, membrane=membrane
        )
        self.divisor = checked_divisor(divisor, largest)
