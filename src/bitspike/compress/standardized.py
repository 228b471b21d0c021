"""1-bit weights without a scale, for networks whose convolutions have batch norm behind them.

Source: BESTformer (IJCAI 2025, arXiv 2501.05904), as its released code does it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from .config import Calibration, Trait, register_config
from .weights import StandardizedSign, SymmetricUniform

__all__ = ["StandardizedBinary"]


@dataclass(frozen=True)
class StandardizedBinary:
    """W_b = sign((W - mean) / std) per output channel, in {-1, +1}, sign(0) = +1, in every convolution but the first.

    The gradient is that of the standardisation, the sign's being the identity.
    edge_bits: 2 to 8, of the other weight layers: the first convolution and the classifiers. None leaves them full
        precision, as published.
    """

    edge_bits: int | None = None

    def __post_init__(self) -> None:
        bits = self.edge_bits
        if bits is not None and not (isinstance(bits, int) and not isinstance(bits, bool) and 2 <= bits <= 8):
            raise ConfigError(f"StandardizedBinary edge_bits is {bits!r}, accepted: 2 to 8, or null")


def _traits(config: StandardizedBinary) -> frozenset[Trait]:
    return frozenset({Trait.QUANTIZES_WEIGHTS, Trait.HAS_NO_ZERO_WEIGHT})


@register_config(StandardizedBinary, version=1, traits=_traits)
def _apply(model: nn.Module, config: StandardizedBinary, calibration: Calibration) -> None:
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    inner = [m for m in layers if isinstance(m, nn.Conv2d)][1:]
    if not inner:
        raise ConfigError("StandardizedBinary binarises convolutions behind the first; the model has none")
    if any(parametrize.is_parametrized(layer, "weight") for layer in layers):
        raise ConfigError(
            "the model's weights already carry a quantizer; apply StandardizedBinary to full-precision weights"
        )
    for layer in layers:
        if layer in inner:
            parametrize.register_parametrization(layer, "weight", StandardizedSign())
        elif config.edge_bits is not None:
            parametrize.register_parametrization(layer, "weight", SymmetricUniform(config.edge_bits))
