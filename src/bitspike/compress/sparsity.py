"""How many weights are zero, and which final threshold makes a wanted share of them zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import ConfigError
from .mixed import weight_layers

__all__ = ["LayerSparsity", "Sparsity", "ThresholdSearch", "initial_threshold", "search_threshold", "sparsity"]


@dataclass(frozen=True)
class LayerSparsity:
    """``zeros`` of the ``weights`` of layer ``name``."""

    name: str
    zeros: int
    weights: int

    @property
    def ratio(self) -> float:
        return self.zeros / self.weights


@dataclass(frozen=True)
class Sparsity:
    """Layers in definition order; the ratio is over all of them."""

    layers: tuple[LayerSparsity, ...]

    @property
    def zeros(self) -> int:
        return sum(layer.zeros for layer in self.layers)

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def ratio(self) -> float:
        return self.zeros / max(self.weights, 1)


@torch.no_grad()
def sparsity(model: nn.Module) -> Sparsity:
    """Zeros among the weights of every convolution and linear layer, as the layers use them.

    Layers kept dense count too; what a quantizer rounds to zero counts as zero.
    """
    return Sparsity(
        tuple(
            LayerSparsity(name, int((layer.weight == 0).sum()), layer.weight.numel())
            for name, layer in weight_layers(model).items()
        )
    )


@torch.no_grad()
def initial_threshold(model: nn.Module, target_sparsity: float) -> float:
    """The magnitude below which ``target_sparsity`` of all weights lie now: where a search for D may start.

    Weights keep the scale of their initialisation early in training, so the final threshold is of this order.
    """
    _check_target(target_sparsity)
    layers = weight_layers(model).values()
    if not layers:
        raise ConfigError("the model has no convolution or linear layer to prune")
    magnitudes = torch.cat([layer.weight.flatten().abs().double() for layer in layers])
    return magnitudes.kthvalue(max(math.ceil(target_sparsity * len(magnitudes)), 1)).values.item()


@dataclass(frozen=True)
class ThresholdSearch:
    """The best final ``threshold`` found, the ``sparsity`` it gave, and every (threshold, sparsity) ``tried``.

    reached: whether that is within the tolerance.
    """

    threshold: float
    sparsity: float
    reached: bool
    tried: tuple[tuple[float, float], ...]


def search_threshold(
    run: Callable[[float], float],
    target_sparsity: float,
    *,
    start: float,
    tolerance: float = 0.01,
    max_runs: int = 12,
) -> ThresholdSearch:
    """Final threshold D whose training ends within ``tolerance`` of ``target_sparsity``, by bisection on short runs.

    run: trains with final threshold D and returns the sparsity reached, which grows with D. start: first D to try, see
    :func:`initial_threshold`. D is doubled or halved until the target lies between two runs, then bisected on a log
    scale; after ``max_runs`` the nearest one is returned. Raises ConfigError for values out of range.
    """
    _check_target(target_sparsity)
    if not 0 < start < math.inf:
        raise ConfigError(f"start is {start}, accepted: above 0")
    if not (tolerance > 0 and max_runs >= 1):
        raise ConfigError(f"tolerance is {tolerance} and max_runs {max_runs}, accepted: above 0, and 1 or more")
    low, high, threshold = 0.0, math.inf, start
    tried: list[tuple[float, float]] = []
    while len(tried) < max_runs:
        tried.append((threshold, run(threshold)))
        if abs(tried[-1][1] - target_sparsity) <= tolerance:
            break
        if tried[-1][1] < target_sparsity:
            low = threshold
        else:
            high = threshold
        threshold = 2 * low if high == math.inf else high / 2 if low == 0 else math.sqrt(low * high)
    best, reached = min(tried, key=lambda pair: abs(pair[1] - target_sparsity))
    return ThresholdSearch(best, reached, abs(reached - target_sparsity) <= tolerance, tuple(tried))


def _check_target(target: float) -> None:
    if not 0 < target < 1:
        raise ConfigError(f"target_sparsity is {target}, accepted: above 0 and below 1")
