"""Accuracy, loss and firing rate over a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Split
from ..layers import mean_over_time
from ..neurons import observe_rates
from .loss import time_mean_cross_entropy

__all__ = ["Evaluation", "evaluate", "to_model_input"]


@dataclass(frozen=True)
class Evaluation:
    """Over ``samples`` samples: accuracy in 0..1, mean loss, mean firing rate over neuron layers, and per layer."""

    samples: int
    accuracy: float
    loss: float
    firing_rate: float
    layer_rates: dict[str, float]


def to_model_input(batch: np.ndarray, device: torch.device) -> Tensor:
    """u8 samples (N, C, H, W) as they are, frames (N, T, C, H, W) as (T, N, C, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(batch)).to(device)
    return tensor.transpose(0, 1) if tensor.dim() == 5 else tensor


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, batch_size: int = 256) -> Evaluation:
    """Evaluate in evaluation mode on the model's device, by the time-mean logits; the mode is restored after."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    correct, loss = 0, 0.0
    rates: dict[str, float] = {}
    for start in range(0, len(split), batch_size):
        inputs = to_model_input(split.inputs[start : start + batch_size], device)
        labels = torch.from_numpy(split.labels[start : start + batch_size]).to(device)
        with observe_rates(model) as observed:
            logits = model(inputs)
        share = len(labels) / len(split)
        correct += int((mean_over_time(logits).argmax(-1) == labels).sum())
        loss += time_mean_cross_entropy(logits, labels).item() * share
        for layer in observed:
            rates[layer.name] = rates.get(layer.name, 0.0) + layer.rate.item() * share
    for module, training in modes.items():
        module.training = training
    mean_rate = float(np.mean(list(rates.values()))) if rates else 0.0
    return Evaluation(len(split), correct / max(len(split), 1), loss, mean_rate, rates)
