"""Firing rates of a forward pass, without state in the neurons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..ops import all_mean
from .registry import Neuron

__all__ = ["FiringRate", "observe_rates"]


@dataclass(frozen=True)
class FiringRate:
    """Mean of ``Neuron.firing`` of layer ``name`` over T, N and all neurons (global batch); a differentiable scalar."""

    name: str
    rate: Tensor


@contextmanager
def observe_rates(model: nn.Module) -> Iterator[list[FiringRate]]:
    """Collect, in order of firing, the rate of every neuron layer that runs inside the ``with`` block."""
    rates: list[FiringRate] = []
    handles = [
        module.register_forward_hook(
            lambda neuron, _inputs, spikes, name=name: rates.append(
                FiringRate(neuron.label or name, all_mean(_mean(neuron.firing(spikes))))
            )
        )
        for name, module in model.named_modules()
        if isinstance(module, Neuron)
    ]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()


def _mean(spikes: Tensor) -> Tensor:
    half = spikes.dtype in (torch.float16, torch.bfloat16)
    return spikes.mean(dtype=torch.float32 if half else None)
