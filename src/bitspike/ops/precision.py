"""What a quantizer declares about itself, and how to find the one attached to a weight.

A weight quantizer is a ``torch.nn.utils.parametrize`` parametrization: any layer's weight can carry one, no special
layer class is needed. A membrane quantizer is the ``membrane`` of a neuron.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["MembraneQuantizer", "Precision", "WeightQuantizer", "quantizer_input", "weight_quantizer"]


@dataclass(frozen=True)
class Precision:
    """``bits`` per value, number of ``levels``, whether zero is one of them, and what shares a scale."""

    bits: int
    levels: int
    has_zero: bool
    granularity: str


@runtime_checkable
class WeightQuantizer(Protocol):
    """Forward gives ``integers * scale``; training, size accounting and export all use the same ``integers``."""

    @property
    def precision(self) -> Precision: ...

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Integer-valued weights (same shape, gradients by the method's estimator) and their scale, broadcastable."""
        ...


@runtime_checkable
class MembraneQuantizer(Protocol):
    """Forward maps the membrane after the reset to what is stored for the next step."""

    @property
    def precision(self) -> Precision: ...

    @property
    def log2_step(self) -> int | None:
        """Exponent of the power-of-two grid, or None where the rule has no exact integer form."""
        ...

    def __call__(self, membrane: Tensor) -> Tensor: ...


def weight_quantizer(layer: nn.Module, name: str = "weight") -> WeightQuantizer | None:
    """The last quantizer attached to ``layer``'s parameter, or None where it is full precision."""
    if not parametrize.is_parametrized(layer, name):
        return None
    attached = [p for p in layer.parametrizations[name] if isinstance(p, WeightQuantizer)]  # type: ignore[index]
    return attached[-1] if attached else None


def quantizer_input(layer: nn.Module, name: str = "weight") -> Tensor:
    """The value that :func:`weight_quantizer` of ``layer`` quantizes: the parameter after what stands before it.

    The parameter itself where nothing is attached.
    """
    if not parametrize.is_parametrized(layer, name):
        parameter: Tensor = getattr(layer, name)
        return parameter
    attached = layer.parametrizations[name]  # type: ignore[index]
    quantizer, value = weight_quantizer(layer, name), attached.original  # type: ignore[union-attr]
    for parametrization in attached:
        if parametrization is quantizer:
            break
        value = parametrization(value)
    return value
