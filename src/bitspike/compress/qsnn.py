"""Q-SNN: 1-bit weights, low-bit membranes, 8-bit first and last layers (ACM Multimedia 2024)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from ..neurons import Neuron
from ..ops import error_decay_schedule
from .config import Calibration, Trait, register_config
from .membrane import DynamicTanhMembrane, PowerOfTwoMembrane
from .weights import PlainSign, StandardizedBinarizer, SymmetricUniform

__all__ = ["QSNN", "set_training_progress"]

BINARIZERS = {"standardized": StandardizedBinarizer, "plain-sign": PlainSign}
MEMBRANES: dict[str, Callable[[int], Any]] = {
    "released": DynamicTanhMembrane,
    "power-of-two": lambda bits: PowerOfTwoMembrane.covering(bits, 1.0),
}


@dataclass(frozen=True)
class QSNN:
    """weight_bits: 1. membrane_bits: 2 to 16, or None to leave membranes alone. edge_bits: first and last layer, 2 to 8.

    membrane: "released" (tanh with a batch-dependent range, as published) or "power-of-two" (deployable).
    binarizer: "standardized" (the method) or "plain-sign" (the baseline of its ablation).
    """

    weight_bits: int = 1
    membrane_bits: int | None = 4
    edge_bits: int = 8
    membrane: str = "released"
    binarizer: str = "standardized"

    def __post_init__(self) -> None:
        if self.weight_bits != 1:
            raise ConfigError(f"QSNN weight_bits is {self.weight_bits!r}, accepted: 1 (Q-SNN is a 1-bit method)")
        if self.membrane_bits is not None and not (
            isinstance(self.membrane_bits, int) and 2 <= self.membrane_bits <= 16
        ):
            raise ConfigError(f"QSNN membrane_bits is {self.membrane_bits!r}, accepted: 2 to 16, or null")
        if not (isinstance(self.edge_bits, int) and 2 <= self.edge_bits <= 8):
            raise ConfigError(f"QSNN edge_bits is {self.edge_bits!r}, accepted: 2 to 8")
        for field, accepted in (("membrane", MEMBRANES), ("binarizer", BINARIZERS)):
            if getattr(self, field) not in accepted:
                raise ConfigError(f"QSNN {field} is {getattr(self, field)!r}, accepted: {', '.join(accepted)}")


def _traits(config: QSNN) -> frozenset[Trait]:
    weights = frozenset({Trait.QUANTIZES_WEIGHTS, Trait.HAS_NO_ZERO_WEIGHT})
    return weights if config.membrane_bits is None else weights | {Trait.QUANTIZES_MEMBRANES}


@register_config(QSNN, version=1, traits=_traits)
def _apply(model: nn.Module, config: QSNN, calibration: Calibration) -> None:
    """Attach the quantizers. The first and the last weight layer, in definition order, get ``edge_bits``."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if len(layers) < 2:
        raise ConfigError(f"Q-SNN needs a first and a last weight layer; the model has {len(layers)}")
    if any(parametrize.is_parametrized(layer, "weight") for layer in layers):
        raise ConfigError("the model's weights already carry a quantizer; apply Q-SNN to a full-precision model")
    for layer in layers:
        edge = layer is layers[0] or layer is layers[-1]
        quantizer = SymmetricUniform(config.edge_bits) if edge else BINARIZERS[config.binarizer]()
        parametrize.register_parametrization(layer, "weight", quantizer)
    if config.membrane_bits is not None:
        neurons = [m for m in model.modules() if isinstance(m, Neuron)]
        for neuron in [n for n in neurons if n.stores_membrane] or neurons:  # where none does, the first one says so
            neuron.membrane = MEMBRANES[config.membrane](config.membrane_bits)


def set_training_progress(model: nn.Module, progress: float) -> None:
    """Move every error-decay estimator of ``model`` to ``progress`` = epoch / epochs, in [0, 1]."""
    k, t = error_decay_schedule(progress)
    for module in model.modules():
        if isinstance(module, StandardizedBinarizer):
            module.set_progress(k, t)
