"""QP-SNN: uniform weights on every level of a per-channel range, and the fixed-range baseline of its ablation.

Source: "QP-SNN: Quantized and Pruned Spiking Neural Networks" (ICLR 2025, arXiv 2502.05905). Pruning is the other half
of the method: apply :class:`Prune` to the trained, quantized model and fine-tune.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from .config import Calibration, Trait, register_config
from .rescaw import (
    GRADIENTS,
    GRANULARITIES,
    RANGES,
    SCALES,
    ReScaW,
    VanillaUniform,
    check_bits,
    check_choice,
    check_percentile,
)
from .weights import SymmetricUniform

__all__ = ["QPSNN", "VanillaQuantization"]

TRAITS = frozenset({Trait.QUANTIZES_WEIGHTS, Trait.HAS_NO_ZERO_WEIGHT})


@dataclass(frozen=True)
class QPSNN:
    """Hidden layers get :class:`ReScaW` with these options; ``weight_bits`` 1 to 8 (8, 4 and 2 in the paper).

    edge_bits: first and last weight layer stay full precision (None, as published) or get symmetric levels with zero of
    2 to 8 bits, which deployment needs.
    """

    weight_bits: int = 4
    scale: str = "mean"
    percentile: float = 0.99
    granularity: str = "channel"
    gradient: str = "unit"
    range: str = "plain"
    edge_bits: int | None = None

    def __post_init__(self) -> None:
        check_bits("QPSNN weight_bits", self.weight_bits)
        check_choice("QPSNN scale", self.scale, SCALES)
        check_percentile("QPSNN percentile", self.percentile)
        check_choice("QPSNN granularity", self.granularity, GRANULARITIES)
        check_choice("QPSNN gradient", self.gradient, GRADIENTS)
        check_choice("QPSNN range", self.range, RANGES)
        _check_edge_bits("QPSNN", self.edge_bits)


@dataclass(frozen=True)
class VanillaQuantization:
    """Hidden layers get :class:`VanillaUniform`: levels over [-1, 1]; the other values mean what they do in QPSNN."""

    weight_bits: int = 4
    edge_bits: int | None = None

    def __post_init__(self) -> None:
        check_bits("VanillaQuantization weight_bits", self.weight_bits)
        _check_edge_bits("VanillaQuantization", self.edge_bits)


@register_config(QPSNN, version=1, traits=lambda config: TRAITS)
def _apply_qpsnn(model: nn.Module, config: QPSNN, calibration: Calibration) -> None:
    def hidden() -> nn.Module:
        return ReScaW(
            config.weight_bits, config.scale, config.granularity, config.gradient, config.range, config.percentile
        )

    _attach("QPSNN", model, hidden, config.edge_bits)


@register_config(VanillaQuantization, version=1, traits=lambda config: TRAITS)
def _apply_vanilla(model: nn.Module, config: VanillaQuantization, calibration: Calibration) -> None:
    _attach("VanillaQuantization", model, lambda: VanillaUniform(config.weight_bits), config.edge_bits)


def _attach(method: str, model: nn.Module, hidden: Callable[[], nn.Module], edge_bits: int | None) -> None:
    """A quantizer on every weight layer but the first and the last, in definition order."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if len(layers) < 3:
        raise ConfigError(f"{method} needs a layer between the first and the last; the model has {len(layers)} in all")
    for layer in layers[1:-1]:
        parametrize.register_parametrization(layer, "weight", hidden())
    if edge_bits is not None:
        for layer in (layers[0], layers[-1]):
            parametrize.register_parametrization(layer, "weight", SymmetricUniform(edge_bits))


def _check_edge_bits(method: str, bits: int | None) -> None:
    if bits is not None and not (type(bits) is int and 2 <= bits <= 8):
        raise ConfigError(f"{method} edge_bits is {bits!r}, accepted: 2 to 8, or null")
