"""Uniform weight quantizers without a zero level: the fixed range of ±1, and ReScaW, whose range follows the weights.

Source: QP-SNN (ICLR 2025, arXiv 2502.05905). Both store a weight in b bits as q and mean the odd integer 2 q - s times
a scale, s = 2^b - 1; at 1 bit these are the signs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import Precision, odd_levels, quantizer_input, weight_quantizer
from .weights import _WeightQuantizer

__all__ = ["GRADIENTS", "GRANULARITIES", "RANGES", "SCALES", "ReScaW", "VanillaUniform", "level_utilisation"]

SMALLEST_GAMMA = 2.0**-20  # of a channel without weights; its outputs then next to vanish, as the scale rule means


def _percentile(rows: Tensor, x: float) -> Tensor:
    bounds = torch.tensor([1 - x, x], dtype=torch.float64)
    low, high = torch.quantile(rows.double(), bounds.to(rows.device), dim=1)
    return torch.maximum(low.abs(), high.abs()).to(rows.dtype)


# rows (G, K) of weights that share a scale, and the percentile's x -> gamma (G,)
SCALES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "mean": lambda rows, x: rows.abs().mean(1),
    "max": lambda rows, x: rows.abs().amax(1),
    "percentile": _percentile,
}
# weight (M, ...) -> rows (G, K) of weights that share a scale
GRANULARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "channel": lambda weight: weight.flatten(1),
    "layer": lambda weight: weight.reshape(1, -1),
}
# bits -> factor on gamma; "wide" is the one of the Spikingformer and detection experiments
RANGES: dict[str, Callable[[int], float]] = {
    "plain": lambda bits: 1.0,
    "wide": lambda bits: (2**bits - 1) / 2 ** (bits - 1),
}
# weight, gamma -> the derivative of the quantized weight that training takes for the true one
GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "unit": lambda weight, gamma: torch.ones_like(gamma),
    "scaled": lambda weight, gamma: 1 / gamma,
    "masked": lambda weight, gamma: (weight.detach().abs() <= gamma).to(weight.dtype),
}
SHARED_BY = {"channel": "output channel, real", "layer": "layer"}


def check_bits(name: str, bits: object) -> None:
    """ConfigError unless ``bits`` is a width these quantizers have."""
    if type(bits) is not int or not 1 <= bits <= 8:
        raise ConfigError(f"{name} is {bits!r}, accepted: 1 to 8")


def check_choice(name: str, value: object, accepted: Mapping[str, object]) -> None:
    """ConfigError unless ``value`` is a name in ``accepted``."""
    if value not in accepted:
        raise ConfigError(f"{name} is {value!r}, accepted: {', '.join(accepted)}")


def check_percentile(name: str, x: float) -> None:
    """ConfigError unless ``x`` is a share of the weights above the median."""
    if not 0.5 < x <= 1:
        raise ConfigError(f"{name} is {x!r}, accepted: above 0.5, up to 1")


class VanillaUniform(_WeightQuantizer):
    """The baseline: 2^bits levels evenly spaced over [-1, 1], whatever the weights are; gradient 1 inside, else 0.

    bits: 1 to 8.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        check_bits("VanillaUniform bits", bits)
        self.bits = bits
        self.precision = Precision(bits=bits, levels=2**bits, has_zero=False, granularity="layer")

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        s, one = 2**self.bits - 1, weight.new_ones(())
        return odd_levels(weight, one, self.bits, s * GRADIENTS["masked"](weight, one)), one / s

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


class ReScaW(_WeightQuantizer):
    """2^bits levels evenly spaced over [-gamma, gamma]; the scale gamma follows the weights and gets no gradient.

    bits: 1 to 8.
    scale: gamma is the "mean" of |W| (the method's choice: many weights saturate, every level is used), its "max", or
        the "percentile" rule max(|P_(1-x)|, |P_x|) with x = ``percentile``.
    granularity: one gamma per output "channel" (as in the authors' code) or per "layer" (as the paper writes it).
    gradient: of the quantized weight by the weight: "unit" (1 everywhere, our reading), "scaled" (1 / gamma, the
        authors' code) or "masked" (1 where |W| <= gamma, else 0, the paper).
    range: "plain", or "wide": gamma times (2^bits - 1) / 2^(bits-1), by which fewer weights saturate.

    A channel of zeros gets a tiny gamma. Raises ConfigError for a value out of range or an unknown name.
    """

    def __init__(
        self,
        bits: int,
        scale: str = "mean",
        granularity: str = "channel",
        gradient: str = "unit",
        range: str = "plain",
        percentile: float = 0.99,
    ) -> None:
        super().__init__()
        check_bits("ReScaW bits", bits)
        check_choice("ReScaW scale", scale, SCALES)
        check_choice("ReScaW granularity", granularity, GRANULARITIES)
        check_choice("ReScaW gradient", gradient, GRADIENTS)
        check_choice("ReScaW range", range, RANGES)
        check_percentile("ReScaW percentile", percentile)
        self.bits, self.scale, self.granularity = bits, scale, granularity
        self.gradient, self.range, self.percentile = gradient, range, percentile
        self.precision = Precision(bits=bits, levels=2**bits, has_zero=False, granularity=SHARED_BY[granularity])

    def gamma(self, weight: Tensor) -> Tensor:
        """The largest level, (M, 1, ...) or (1, 1, ...), without gradient."""
        rows = GRANULARITIES[self.granularity](weight.detach())
        gamma = SCALES[self.scale](rows, self.percentile) * RANGES[self.range](self.bits)
        return gamma.clamp_min(SMALLEST_GAMMA).view(-1, *[1] * (weight.dim() - 1))

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        gamma = self.gamma(weight)
        scale = gamma / (2**self.bits - 1)
        slope = GRADIENTS[self.gradient](weight, gamma) / scale
        return odd_levels(weight, gamma, self.bits, slope), scale

    def extra_repr(self) -> str:
        return (
            f"bits={self.bits}, scale={self.scale!r}, granularity={self.granularity!r}, "
            f"gradient={self.gradient!r}, range={self.range!r}"
        )


def level_utilisation(layer: nn.Module) -> float:
    """Distinct integers among the quantized weights of ``layer``, as a share of the 2^bits it stores.

    Raises ConfigError where the layer carries no quantizer.
    """
    quantizer = weight_quantizer(layer)
    if quantizer is None:
        raise ConfigError(f"{type(layer).__name__} carries no weight quantizer; attach one with compress.apply")
    with torch.no_grad():
        integers, _ = quantizer.integers(quantizer_input(layer))
    return len(integers.unique()) / 2**quantizer.precision.bits
