"""Saccadic neurons on integers, in the exact training-side forward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..neurons import DecoupledSaccadic, Saccadic
from ..ops import round_ste, spike
from .edges import SPIKES, Edge, ExactLayer
from .exact_unit import Fired

__all__ = ["ExactMix"]

SUM_LIMIT = 2.0**28
MOST_FRACTION = 16


class ExactMix(ExactLayer):
    """Spikes where a weighted sum of this and earlier steps exceeds the threshold of the step; as ``deploy.ir.Mix``."""

    def __init__(self, name: str, neuron: Saccadic | DecoupledSaccadic) -> None:
        super().__init__(name)
        self._held = (neuron,)
        self.fired = Fired(name)

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "current", "stream", "spikes", "counts")
        return SPIKES

    def integers(self, edges: Sequence[Edge]) -> tuple[Tensor, Tensor, Tensor]:
        """weight (T, T), threshold (T,), and unit (T,): the real value of a sum of 1; float64, with gradients.

        Each step has a power of two of its own, as fine as 28 bits of its sum allow.
        """
        (neuron,), (edge,) = self._held, edges
        thresholds = neuron.thresholds().double()
        weight = neuron.weight() if isinstance(neuron, Saccadic) else torch.ones_like(thresholds).diag()
        weight = weight.double()
        most = SUM_LIMIT / (weight.detach().abs().sum(1) * edge.limit)
        fine = torch.exp2(most.log2().floor().clamp(0, MOST_FRACTION))
        unit = torch.as_tensor(edge.scale).to(weight.device).double() / fine
        return round_ste(weight * fine[:, None]), (thresholds / unit).detach().floor() + 1, unit

    def forward(self, x: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        weight, threshold, unit = self.integers(edges)
        mixed = torch.tensordot(weight, x.double(), 1)
        shape = (-1, *[1] * (x.dim() - 1))
        neuron = self._held[0]
        real = neuron.thresholds().double().view(shape)
        distance = (mixed - threshold.view(shape) + 0.5) * unit.view(shape) / real
        fires: Tensor = self.fired(spike(distance, neuron.surrogate).float())
        return fires
