"""A bit width of its own for every weight layer; :mod:`.allocate` chooses them under a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from ..layers import Readout
from ..ops import weight_quantizer
from .config import Calibration, Trait, register_config
from .rescaw import ReScaW, check_bits, check_choice
from .weights import PlainSign, SymmetricUniform

__all__ = ["MixedBits", "mixed_quantizer", "weight_layers"]

Rule = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Family:
    """Bits -> the quantizer of a hidden layer, and of a readout, whose logits compare only on one scale for the layer."""

    hidden: Rule
    readout: Rule


def _odd_readout(bits: int) -> nn.Module:
    return ReScaW(bits, scale="max" if bits > 1 else "mean", granularity="layer")  # no logit is clipped


QUANTIZERS = {
    "rescaw": Family(lambda bits: ReScaW(bits), _odd_readout),
    "rescaw-wide": Family(lambda bits: ReScaW(bits, range="wide"), _odd_readout),
    "rescaw-max": Family(lambda bits: ReScaW(bits, scale="max" if bits > 1 else "mean"), _odd_readout),
    "symmetric": Family(
        lambda bits: SymmetricUniform(bits) if bits > 1 else PlainSign(),
        lambda bits: SymmetricUniform(bits) if bits > 1 else _odd_readout(bits),
    ),
}


@dataclass(frozen=True)
class MixedBits:
    """bits: weight layer -> 1 to 8; default: bits of the layers not named, or None where all must be.

    quantizer: "rescaw-max" (odd levels up to the largest weight of a channel: most faithful before any training),
    "rescaw" (up to the mean weight, QP-SNN's choice for training from scratch), "rescaw-wide" (its Spikingformer variant)
    or "symmetric" (levels with zero; the sign at 1 bit). A readout gets one scale for the layer whichever it is, so that its
    logits compare. Layers go by the names of :func:`weight_layers`. Raises ConfigError for a value out of range.
    """

    bits: dict[str, int] = field(default_factory=dict)
    default: int | None = None
    quantizer: str = "rescaw-max"

    def __post_init__(self) -> None:
        if not isinstance(self.bits, dict):
            raise ConfigError(f"MixedBits bits is {self.bits!r}, accepted: an object of layer names and bits")
        object.__setattr__(self, "bits", dict(self.bits))  # the caller's may change
        for name, bits in self.bits.items():
            check_bits(f"MixedBits bits of {name!r}", bits)
        if self.default is not None:
            check_bits("MixedBits default", self.default)
        check_choice("MixedBits quantizer", self.quantizer, QUANTIZERS)


def weight_layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """The convolutions and linear layers of ``model`` by name, in definition order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def mixed_quantizer(model: nn.Module, layer: nn.Module, quantizer: str, bits: int) -> nn.Module:
    """The weight quantizer that :class:`MixedBits` attaches to ``layer`` of ``model``."""
    is_readout = any(layer is module.layer for module in model.modules() if isinstance(module, Readout))
    family = QUANTIZERS[quantizer]
    return (family.readout if is_readout else family.hidden)(bits)


def _traits(config: MixedBits) -> frozenset[Trait]:
    always_zero = config.quantizer == "symmetric" and 1 not in (*config.bits.values(), config.default)
    return frozenset({Trait.QUANTIZES_WEIGHTS} if always_zero else {Trait.QUANTIZES_WEIGHTS, Trait.HAS_NO_ZERO_WEIGHT})


@register_config(MixedBits, version=1, traits=_traits)
def _apply(model: nn.Module, config: MixedBits, calibration: Calibration) -> None:
    layers = weight_layers(model)
    unknown = [name for name in config.bits if name not in layers]
    if unknown:
        raise ConfigError(f"MixedBits names {', '.join(unknown)}, accepted: {', '.join(layers)}")
    missing = [name for name in layers if name not in config.bits]
    if missing and config.default is None:
        raise ConfigError(f"MixedBits says nothing of {', '.join(missing)}; name them in bits, or give a default")
    refuse_quantized(layers)
    for name, layer in layers.items():
        bits = config.bits.get(name, config.default)
        assert bits is not None
        parametrize.register_parametrization(layer, "weight", mixed_quantizer(model, layer, config.quantizer, bits))


def refuse_quantized(layers: dict[str, nn.Conv2d | nn.Linear]) -> None:
    """ConfigError where a layer's weight carries a quantizer."""
    quantized = [name for name, layer in layers.items() if weight_quantizer(layer) is not None]
    if quantized:
        raise ConfigError(f"weights of {', '.join(quantized)} carry a quantizer, accepted: full-precision weights")
