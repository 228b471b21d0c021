"""From the last spikes to logits per step, and the named reductions over time."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import ConfigError
from .weighted import SpikeLinear

__all__ = ["Readout", "mean_over_time"]


class Readout(nn.Module):
    """Classifier on spikes (T, N, C, H, W): logits (T, N, classes).

    pool: features are the means over the pixels (C of them), else all C·H·W spikes.
    """

    def __init__(self, features: int, classes: int, *, pool: bool) -> None:
        super().__init__()
        if classes < 1:
            raise ConfigError(f"num_classes is {classes}, accepted: 1 or more")
        self.pool = pool
        self.layer = SpikeLinear(features, classes)
        nn.init.normal_(self.layer.weight, std=features**-0.5)
        nn.init.zeros_(self.layer.bias)

    def forward(self, spikes: Tensor) -> Tensor:
        features = spikes.mean((-2, -1)) if self.pool else spikes.flatten(2)
        logits: Tensor = self.layer(features)
        return logits


def mean_over_time(logits: Tensor) -> Tensor:
    """Readout shared by loss, evaluation and deployment: (T, N, classes) -> (N, classes)."""
    return logits.mean(0)
