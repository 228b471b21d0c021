"""Learning-rate schedules as functions of time, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from .config import TrainConfig

__all__ = ["learning_rate_factor"]


def learning_rate_factor(epoch: float, config: TrainConfig) -> float:
    """Factor on the learning rate at ``epoch`` (fractional within an epoch), 0 <= epoch <= config.epochs."""
    if epoch < config.warmup_epochs:
        return min((epoch + 1e-3) / config.warmup_epochs, 1.0)
    if config.schedule == "cosine":
        span = max(config.epochs - config.warmup_epochs, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min((epoch - config.warmup_epochs) / span, 1.0)))
    if config.schedule == "step":
        return config.gamma ** sum(epoch >= m for m in config.milestones)
    return 1.0
