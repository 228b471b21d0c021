"""The exact training-side forward: the integers of the deployed network, computed in torch with gradients.

``exact_model(model)`` wraps a trained model. Its forward equals the integer graph bit for bit (every value is an
integer below 2^24, so float32 represents it exactly) and shares the model's parameters: training it fine-tunes the
model on the numbers it will be deployed with. Batch norm uses its running statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..encode import DirectEncoding
from ..layers import trace
from .edges import Edge, ExactLayer
from .exact_unit import ExactReadout, ExactUnit
from .plan import Plan

__all__ = ["ExactModel", "ExactReadout", "ExactUnit", "exact_model", "integer_logits"]


class ExactModel(nn.Module):
    """Samples (N, C, H, W) or frames (T, N, C, H, W) of u8 values to logits (T, N, classes); see the module's text."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.source = model
        self.steps = trace(model)
        plan = Plan(self.steps)
        self.layers = nn.ModuleList(plan.layers)
        self.sources: Sequence[tuple[int, ...]] = plan.sources

    @property
    def encoding(self) -> DirectEncoding:
        """The model's input stage."""
        module = self.steps[0].module
        assert isinstance(module, DirectEncoding)
        return module

    def forward(self, samples: Tensor) -> Tensor:
        logits, scale = self.integer_steps(samples)
        return (logits * scale).float()

    def integer_steps(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Integer logits (T, N, classes) in floats, and the scale that makes them real."""
        with torch.autocast(samples.device.type, enabled=False):
            values: list[Tensor] = [self.layers[0](samples)]
            edges = [self.edge(0, [], values[0].shape[2:])]
            for index in range(1, len(self.layers) - 1):
                read = [edges[s] for s in self.sources[index]]
                values.append(self.layers[index](*(values[s] for s in self.sources[index]), edges=read))
                edges.append(self.edge(index, read, values[-1].shape[2:]))
            last = self.sources[-1]
            logits, scale = self.layers[-1](*(values[s] for s in last), edges=[edges[s] for s in last])
        return logits, scale

    @torch.no_grad()
    def edge(self, index: int, inputs: Sequence[Edge], shape: Sequence[int]) -> Edge:
        """The edge of layer ``index``, of ``shape`` (C, H, W), which reads ``inputs``."""
        layer = self.layers[index]
        assert isinstance(layer, ExactLayer)
        return replace(layer.edge(inputs), shape=tuple(shape))


def exact_model(model: nn.Module) -> ExactModel:
    """The exact forward of ``model``, sharing its parameters. LoweringError names what has no integer form."""
    return ExactModel(model)


@torch.no_grad()
def integer_logits(model: nn.Module, samples: Tensor, batch_size: int = 256) -> NDArray[np.int32]:
    """Integer logits (N, classes) summed over time, what the engine's ``run`` returns; samples (N, C, H, W) u8.

    Frames are (N, T, C, H, W) here, as the engine takes them.
    """
    exact = model if isinstance(model, ExactModel) else exact_model(model)
    parts = []
    for start in range(0, max(len(samples), 1), batch_size):
        batch = samples[start : start + batch_size]
        steps, _ = exact.integer_steps(batch.transpose(0, 1) if batch.dim() == 5 else batch)
        parts.append(steps.double().sum(0).cpu().numpy().astype(np.int32))
    return np.concatenate(parts)
