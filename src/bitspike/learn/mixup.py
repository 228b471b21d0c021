"""Mixup: convex combinations of samples and of their one-hot labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["mixup"]


def mixup(
    inputs: Tensor, targets: Tensor, classes: int, alpha: float, batch_axis: int, seed: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Mix each sample with its successor in the batch by lambda ~ Beta(alpha, alpha), one per batch from ``seed``.

    inputs u8 with the batch on ``batch_axis``, targets (N,); returns floats in 0..255 and probabilities (N, classes).
    The partner is the neighbour within this process's share of the batch.
    """
    weight = float(np.random.default_rng(seed).beta(alpha, alpha))
    values = inputs.to(torch.get_default_dtype())
    mixed = weight * values + (1 - weight) * values.roll(1, batch_axis)
    soft = F.one_hot(targets, classes).to(values.dtype)
    return mixed, weight * soft + (1 - weight) * soft.roll(1, 0)
