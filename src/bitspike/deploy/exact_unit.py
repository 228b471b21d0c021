"""Units of neurons, and a readout, on integer edges: parts of the exact training-side forward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import LoweringError
from ..layers import Readout, SpikingUnit
from ..neurons import Neuron
from ..neurons.lif import TEMPORAL_GRADIENTS
from ..ops import Surrogate, Triangle, floor_ste, round_ste, shift_round, spike
from ..ops.membrane import Temporal
from .edges import SPIKES, Edge, ExactLayer
from .fold import (
    COUNTED_UNITS,
    FINE_UNITS,
    SPIKE_UNITS,
    Folded,
    NeuronForm,
    QuantizedWeight,
    Source,
    Units,
    fold,
    neuron_form,
    quantized_weight,
    source_form,
)

__all__ = ["ExactReadout", "ExactUnit", "Fired", "integer_sum"]


class Fired(Neuron):
    """Passes spikes through, so that rates of an exact model are observed like any neuron's."""

    membrane = None

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def forward(self, spikes: Tensor) -> Tensor:
        return spikes


class ExactUnit(ExactLayer):
    """A SpikingUnit on integer edges (T, N, C, H, W), held in floats. ``labels``: names of its currents."""

    def __init__(self, name: str, unit: SpikingUnit, edges: list[Edge], labels: list[str]) -> None:
        super().__init__(name)
        self.edges, self.labels = edges, labels
        self._held = (unit,)  # in a tuple: its parameters belong to the source model, not to this module
        self.form = neuron_form(name, unit.neuron)
        self.fired = Fired(name)
        if any(e.pixels for e in edges) and len(edges) > 1:
            raise LoweringError(f"{name!r} adds a shortcut to the input image, which has no spikes to add")
        self.integers()  # refuses now, not in the first forward, what has no integer form

    @property
    def unit(self) -> SpikingUnit:
        """The trained unit whose parameters are used."""
        return self._held[0]

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        return SPIKES

    def integers(self, edges: Sequence[Edge] | None = None) -> tuple[list[Source], Folded]:
        """The unit's integer weights and folded parameters, with gradients; ``edges``: as in ``forward``."""
        edges = self.edges if edges is None else edges
        sources = [
            source_form(self.name, current, edge.scale, edge.limit, self.form.input_gain)
            for current, edge in zip(self.unit.currents, edges, strict=True)
        ]
        device = next((s.weight.device for s in sources if s.weight is not None), None)
        moved = [replace(s, gain=s.gain.to(device), offset=s.offset.to(device)) for s in sources]
        channels = edges[0].shape[0] if all(s.weight is None for s in sources) else 1
        return sources, fold(moved, self.form, self._units(sources, edges), channels)

    @staticmethod
    def _units(sources: Sequence[Source], edges: Sequence[Edge]) -> Units:
        if all(s.weight is None and e.kind == "current" for s, e in zip(sources, edges, strict=True)):
            return COUNTED_UNITS
        return FINE_UNITS if any(e.kind in ("input", "stream") for e in edges) else SPIKE_UNITS

    def forward(self, *inputs: Tensor, edges: Sequence[Edge] | None = None) -> Tensor:
        sources, folded = self.integers(edges)
        sums = [integer_sum(s, x) for s, x in zip(sources, inputs, strict=True)]
        current: Tensor = sum(m.view(-1, 1, 1) * a for m, a in zip(folded.multiplier, sums, strict=True))
        neuron = self.unit.neuron
        surrogate: Surrogate = getattr(neuron, "surrogate", None) or Triangle()
        detach = bool(getattr(neuron, "detach_reset", False))
        temporal = TEMPORAL_GRADIENTS[neuron.temporal_gradient]
        spikes: Tensor = self.fired(_integer_lif(current, folded, self.form, surrogate, detach, temporal).float())
        return spikes


class ExactReadout(ExactLayer):
    """Integer logits (T, N, classes) from spikes or counts, held in floats; ``scale`` makes them real."""

    def __init__(self, name: str, readout: Readout, source: Edge) -> None:
        super().__init__(name)
        self.source = source
        self._held = (readout,)
        self.integers((1, 1))

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        return Edge("logits", 1.0, 1.0)

    @property
    def readout(self) -> Readout:
        """The trained readout whose parameters are used."""
        return self._held[0]

    def integers(self, area: Sequence[int]) -> tuple[QuantizedWeight, Tensor, Tensor]:
        """(weight, bias, scale of an integer logit) with gradients; ``area``: H, W of the source."""
        weight = quantized_weight(self.name, self.readout.layer)
        if weight.scale.numel() != 1:
            raise LoweringError(f"weights of {self.name!r} need one scale for the layer, so that logits compare")
        scale = weight.scale.float().reshape(()) * self.source.scale / (math.prod(area) if self.readout.pool else 1)
        return weight, round_ste(self.readout.layer.bias.float() / scale), scale

    def forward(self, spikes: Tensor, *, edges: Sequence[Edge] = ()) -> tuple[Tensor, Tensor]:
        weight, bias, scale = self.integers(spikes.shape[-2:])
        features = spikes.sum((-2, -1)) if self.readout.pool else spikes.flatten(2)
        return F.linear(features, weight.integers.float(), bias), scale


def integer_sum(source: Source, x: Tensor) -> Tensor:
    """Sums (T, N, M, H', W') of integer weights and integer edges; a repeated step is computed once."""
    if source.weight is None:
        return x
    weight = source.weight.float()
    repeated = x.shape[0] > 1 and x.stride(0) == 0
    flat = x[0] if repeated else x.flatten(0, 1)
    if weight.dim() == 4:
        flat = F.conv2d(flat, weight, None, source.stride, source.padding, 1, source.groups)
    else:
        flat = F.linear(flat.flatten(1), weight)[..., None, None]
    if flat.is_cuda:  # cuDNN may choose an algorithm with fractions inside (Winograd); the sums are integers
        flat = round_ste(flat)
    return flat.expand(x.shape[0], *flat.shape) if repeated else flat.unflatten(0, x.shape[:2])


def _integer_lif(
    current: Tensor, folded: Folded, form: NeuronForm, surrogate: Surrogate, detach_reset: bool, temporal: Temporal
) -> Tensor:
    """Spikes (T, N, C, H, W) by the rule of ``deploy.ir.Lif`` in floats; gradients as of the real-valued neuron."""
    bias, threshold, shift, delta = (
        p.view(-1, 1, 1) for p in (folded.bias, folded.threshold, folded.membrane_shift, folded.delta)
    )
    limit = 2 ** (form.membrane_bits - 1) - 1
    unit = torch.exp2(shift)
    half = torch.where(shift > 0, 0.5, 0.0)
    carry: Tensor | None = None
    spikes = []
    last = len(current) - 1
    for t, x in enumerate(current.unbind(0)):
        u = x + bias
        if carry is not None:
            leaked = carry - floor_ste(carry / 2**form.leak_shift) if form.leak_shift else carry
            u = leaked + u
        fired = spike((u - threshold + 0.5) * delta, surrogate)  # u >= threshold on integers
        spikes.append(fired)
        if t == last:
            break
        gate = fired.detach() if detach_reset else fired
        rest = u - gate * threshold if form.soft_reset else u * (1 - gate)
        carry = shift_round(temporal(rest), unit, half, limit)
    return torch.stack(spikes)
