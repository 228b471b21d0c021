"""1-bit weights with a real scale per channel, for training by the self-ensemble view of spiking networks.

The binariser is our reading of what "A Self-Ensemble Inspired Approach for Effective Training of Binary-Weight Spiking
Neural Networks" (arXiv 2508.12609) leaves open: the one common to binary networks, W_b = mean |W| * sign(W).
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from .config import Calibration, Trait, register_config
from .weights import PlainSign, StraightThroughSign, SymmetricUniform

__all__ = ["BinaryWeights"]

SIGNS = {False: StraightThroughSign, True: PlainSign}  # by scaled_gradient


@dataclass(frozen=True)
class BinaryWeights:
    """W_b = s * sign(W) with s = mean |W| per output channel, sign(0) = +1, in every inner layer.

    edge_bits: 2 to 8, of the first and the last weight layer in definition order; None leaves them full precision.
    scaled_gradient: dL/dW is dL/dW_b * 1[|W| <= 1], and times s with True.
    layers: patterns ("*" for any text) of the names of the layers that are binarised. Inner layers that none of them
        matches are treated like the first and the last.
    """

    edge_bits: int | None = 8
    scaled_gradient: bool = False
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        bits = self.edge_bits
        if bits is not None and not (isinstance(bits, int) and 2 <= bits <= 8):
            raise ConfigError(f"BinaryWeights edge_bits is {bits!r}, accepted: 2 to 8, or null")
        if not isinstance(self.scaled_gradient, bool):
            raise ConfigError(f"BinaryWeights scaled_gradient is {self.scaled_gradient!r}, accepted: true, false")
        if not self.layers or not all(isinstance(pattern, str) for pattern in self.layers):
            raise ConfigError(f"BinaryWeights layers is {self.layers!r}, accepted: at least one pattern of layer names")


def _traits(config: BinaryWeights) -> frozenset[Trait]:
    return frozenset({Trait.QUANTIZES_WEIGHTS, Trait.HAS_NO_ZERO_WEIGHT})


@register_config(BinaryWeights, version=1, traits=_traits)
def _apply(model: nn.Module, config: BinaryWeights, calibration: Calibration) -> None:
    named = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    inner = list(named)[1:-1]
    if any(parametrize.is_parametrized(layer, "weight") for layer in named.values()):
        raise ConfigError(
            "the model's weights already carry a quantizer; apply BinaryWeights to full-precision weights"
        )
    for pattern in config.layers:
        if not any(fnmatchcase(name, pattern) for name in inner):
            raise ConfigError(
                f"BinaryWeights layers: {pattern!r} matches no layer between the first and the last, "
                f"accepted: patterns of {', '.join(inner) or 'no layer, the model has no more'}"
            )
    for name, layer in named.items():
        if name in inner and any(fnmatchcase(name, pattern) for pattern in config.layers):
            parametrize.register_parametrization(layer, "weight", SIGNS[config.scaled_gradient]())
        elif config.edge_bits is not None:
            parametrize.register_parametrization(layer, "weight", SymmetricUniform(config.edge_bits))
