"""Soft-threshold pruning: the network trains dense latent weights and uses them shrunk by a threshold that rises.

w = S_d(theta), straight-through gradient, one d for all layers. Source: "A Unified Framework for Soft Threshold
Pruning" (ICLR 2023, arXiv 2302.13019), with its schedules LATS, S-LATS and PGH.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from ..ops import soft_threshold
from .config import Calibration, Trait, register_config
from .mixed import weight_layers
from .schedules import check_schedule, threshold_fractions

__all__ = ["SoftThreshold", "SoftThresholdPruning", "threshold_driver"]

LEARNING_RATE_TOLERANCE = 1e-6  # relative; a plan in other units or of another length is off by far more


class SoftThreshold(nn.Module):
    """Weight parametrization w = S_d(theta); d = ``threshold``, raised by :func:`threshold_driver`.

    ``threshold`` and ``steps``, the optimizer steps it has seen, are stored with the weights, so that a resumed run goes
    on where it stopped. Assigning a weight sets theta such that S_d(theta) is that weight.
    """

    threshold: Tensor
    steps: Tensor

    def __init__(self, threshold: float, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.full((), threshold, dtype=like.dtype, device=like.device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=like.device))

    def forward(self, theta: Tensor) -> Tensor:
        return soft_threshold(theta, self.threshold)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight + torch.sign(weight) * self.threshold

    def extra_repr(self) -> str:
        return f"threshold={float(self.threshold):g}"


@dataclass(frozen=True)
class SoftThresholdPruning:
    """Sparse weights in every convolution and linear layer, by one threshold that rises to ``final_threshold`` (D).

    D alone sets the sparsity; :func:`bitspike.compress.search_threshold` finds it for a wanted one. schedule: "lats"
    (constant L1 coefficient for any learning rate), "s-lats" (its closed form for a cosine), "pgh" (coefficient falls as
    ``beta``^progress), "linear", or "constant" (D from the first step on, latent weights chosen such that the network is
    unchanged). keep_first, keep_last: leave the first or the last layer, in definition order, dense.

    The threshold rises in training only, by :func:`threshold_driver`. Raises ConfigError for values out of range.
    """

    final_threshold: float = 0.05
    schedule: str = "lats"
    beta: float | None = None
    keep_first: bool = False
    keep_last: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.final_threshold < math.inf:
            raise ConfigError(f"final_threshold is {self.final_threshold!r}, accepted: 0 or more")
        check_schedule(self.schedule, self.beta)


@register_config(SoftThresholdPruning, version=1, traits=lambda config: frozenset({Trait.SPARSIFIES_WEIGHTS}))
def _apply(model: nn.Module, config: SoftThresholdPruning, calibration: Calibration) -> None:
    layers = list(weight_layers(model).items())
    layers = layers[1 if config.keep_first else 0 : -1 if config.keep_last else None]
    if not layers:
        raise ConfigError("the model has no convolution or linear layer to prune")
    taken = [name for name, layer in layers if parametrize.is_parametrized(layer, "weight")]
    if taken:
        raise ConfigError(f"weights of {', '.join(taken)} are parametrized, accepted: plain weights")
    start = config.final_threshold if config.schedule == "constant" else 0.0
    for _, layer in layers:
        parametrize.register_parametrization(layer, "weight", SoftThreshold(start, layer.weight))


def threshold_driver(
    config: SoftThresholdPruning, learning_rates: Sequence[float], *, start_step: int = 0
) -> Callable[[nn.Module, float], None]:
    """What raises the threshold: a function of (model, learning rate), to be called after each optimizer step.

    learning_rates: of every optimizer step until the threshold is D, as the run will use them; LATS needs their sum in
    advance. Before ``start_step`` the threshold stays 0, after the last step it stays D. The function counts the steps
    in the model's buffers and raises ConfigError for a model without thresholds, and for a learning rate that is
    not the planned one: the coefficient would not be the schedule's.
    """
    if not 0 <= start_step < max(len(learning_rates), 1):
        raise ConfigError(f"start_step is {start_step}, accepted: 0 to below the {len(learning_rates)} planned steps")
    risen = threshold_fractions(config.schedule, learning_rates[start_step:], config.beta)
    fractions = [risen[0]] * start_step + risen

    @torch.no_grad()
    def advance(model: nn.Module, learning_rate: float) -> None:
        thresholds = [m for m in model.modules() if isinstance(m, SoftThreshold)]
        if not thresholds:
            raise ConfigError("the model has no weight thresholds; apply SoftThresholdPruning first")
        step = int(thresholds[0].steps)
        if step < len(learning_rates):
            planned = learning_rates[step]
            if not math.isclose(learning_rate, planned, rel_tol=LEARNING_RATE_TOLERANCE, abs_tol=1e-12):
                raise ConfigError(
                    f"step {step} used learning rate {learning_rate:g}, the threshold's plan is {planned:g}"
                )
        d = config.final_threshold * fractions[min(step + 1, len(learning_rates))]
        for module in thresholds:
            module.threshold.fill_(d)
            module.steps.fill_(step + 1)

    return advance
