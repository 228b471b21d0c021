"""Losses on logits per step, and the weight-spike dual regulation of Q-SNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..layers import mean_over_time
from ..neurons import FiringRate

__all__ = [
    "BatchObjective",
    "MeanLogits",
    "Objective",
    "SpikeRegulation",
    "mean_logit_cross_entropy",
    "objective_of_batch",
    "spike_regulation",
    "time_mean_cross_entropy",
]

Objective = Callable[[Tensor, Tensor, Sequence[FiringRate]], Tensor]
"""(logits (T, N, classes), targets (N,) or (N, classes), firing rates) -> scalar loss."""


@runtime_checkable
class BatchObjective(Protocol):
    """An objective that looks at every batch before the model does, e.g. to ask a teacher."""

    def batch(self, model: nn.Module, inputs: Tensor) -> AbstractContextManager[Objective]:
        """The objective of one batch; entered before the model's forward pass, left after the backward pass.

        It is called once with the logits of all steps, or, step by step, with those of one step at a time.
        """
        ...


def objective_of_batch(
    objective: Objective | BatchObjective, model: nn.Module, inputs: Tensor
) -> AbstractContextManager[Objective]:
    """Whatever the kind of ``objective``: the one to call for this batch."""
    return objective.batch(model, inputs) if isinstance(objective, BatchObjective) else nullcontext(objective)


def time_mean_cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy at every step of logits (T, N, classes), averaged over T and N (Q-SNN's L_task).

    targets: class indices (N,), or class probabilities (N, classes) for mixed samples.
    """
    steps = logits.shape[0]
    repeated = targets.repeat(steps, *[1] * (targets.dim() - 1))
    return F.cross_entropy(
        logits.flatten(0, 1).float() if logits.dtype != torch.float64 else logits.flatten(0, 1),
        repeated,
        label_smoothing=label_smoothing,
    )


def mean_logit_cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the mean over T of logits (T, N, classes), averaged over N.

    For sequences whose first steps cannot tell the class yet: no step has to answer alone. Targets as above.
    """
    mean = mean_over_time(logits if logits.dtype == torch.float64 else logits.float())
    return F.cross_entropy(mean, targets, label_smoothing=label_smoothing)


def spike_regulation(rates: Sequence[FiringRate], target_rate: float = 0.5) -> Tensor:
    """L_f: mean over the neuron layers, except the first and the last, of (rate - target_rate)^2.

    At the published target 0.5 the entropy of a spike is largest and L_f is at most 0.25; a lower target trades
    entropy for fewer operations. Zero where no layer is left.
    """
    inner = [r.rate for r in rates[1:-1]]
    if not inner:
        return torch.zeros(())
    return ((torch.stack(inner) - target_rate) ** 2).mean()


@dataclass(frozen=True)
class SpikeRegulation:
    """The objective L_task + weight * L_f of Q-SNN; ``weight`` 0 is the plain time-mean cross-entropy."""

    weight: float = 5e-3
    target_rate: float = 0.5
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.target_rate <= 1:
            raise ConfigError(f"target_rate is {self.target_rate}, accepted: 0 to 1")
        if not self.weight >= 0:
            raise ConfigError(f"regulation weight is {self.weight}, accepted: 0 or more")

    def __call__(self, logits: Tensor, targets: Tensor, rates: Sequence[FiringRate]) -> Tensor:
        loss = time_mean_cross_entropy(logits, targets, self.label_smoothing)
        if self.weight == 0:
            return loss
        return loss + self.weight * spike_regulation(rates, self.target_rate).to(loss.device)


@dataclass(frozen=True)
class MeanLogits:
    """The objective of sequential tasks: cross-entropy of the mean of the logits over all steps."""

    label_smoothing: float = 0.0

    def __call__(self, logits: Tensor, targets: Tensor, rates: Sequence[FiringRate]) -> Tensor:
        return mean_logit_cross_entropy(logits, targets, self.label_smoothing)
