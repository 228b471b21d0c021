"""The exact training-side forward: the integers of the deployed network, computed in torch with gradients.

``exact_model(model)`` wraps a trained model. Its forward equals the integer graph bit for bit (every value is an
integer below 2^24, so float32 represents it exactly) and shares the model's parameters: training it fine-tunes the
model on the numbers it will be deployed with. Batch norm uses its running statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..encode import DirectEncoding
from ..errors import LoweringError
from ..layers import AvgPool, MaxPool, Readout, SpikingUnit, Step, trace
from ..neurons import LIF, Neuron
from ..neurons.lif import TEMPORAL_GRADIENTS
from ..ops import Surrogate, Triangle, floor_ste, round_ste, shift_round, spike
from ..ops.membrane import Temporal
from .fold import Folded, NeuronForm, QuantizedWeight, Source, fold, neuron_form, quantized_weight, source_form

__all__ = ["ExactModel", "exact_model", "integer_logits"]


@dataclass(frozen=True)
class Edge:
    """``scale``: real value of integer 1; ``limit``: largest |integer|; ``pixels``: the u8 input."""

    scale: float
    limit: float
    pixels: bool = False


class _Fired(Neuron):
    """Passes spikes through, so that rates of an exact model are observed like any neuron's."""

    membrane = None

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def forward(self, spikes: Tensor) -> Tensor:
        return spikes


class ExactUnit(nn.Module):
    """A SpikingUnit on integer edges (T, N, C, H, W), held in floats."""

    def __init__(self, name: str, unit: SpikingUnit, edges: list[Edge]) -> None:
        super().__init__()
        self.name, self.edges = name, edges
        self._held = (unit,)  # in a tuple: its parameters belong to the source model, not to this module
        self.form = neuron_form(name, unit.neuron)
        self.fired = _Fired(name)
        if any(e.pixels for e in edges) and len(edges) > 1:
            raise LoweringError(f"{name!r} adds a shortcut to the input image, which has no spikes to add")
        self.integers()  # refuses now, not in the first forward, what has no integer form

    @property
    def unit(self) -> SpikingUnit:
        """The trained unit whose parameters are used."""
        return self._held[0]

    def integers(self) -> tuple[list[Source], Folded]:
        """The unit's integer weights and folded parameters, with gradients."""
        sources = [
            source_form(self.name, current, edge.scale, edge.limit, self.form.input_gain)
            for current, edge in zip(self.unit.currents, self.edges, strict=True)
        ]
        device = next((s.weight.device for s in sources if s.weight is not None), None)
        moved = [replace(s, gain=s.gain.to(device), offset=s.offset.to(device)) for s in sources]
        return sources, fold(moved, self.form, any(e.pixels for e in self.edges))

    def forward(self, *inputs: Tensor) -> Tensor:
        sources, folded = self.integers()
        sums = [_integer_sum(s, x) for s, x in zip(sources, inputs, strict=True)]
        current: Tensor = sum(m.view(-1, 1, 1) * a for m, a in zip(folded.multiplier, sums, strict=True))
        neuron = self.unit.neuron
        surrogate: Surrogate = neuron.surrogate if isinstance(neuron, LIF) else Triangle()
        detach = isinstance(neuron, LIF) and neuron.detach_reset
        temporal = TEMPORAL_GRADIENTS[neuron.temporal_gradient]
        spikes: Tensor = self.fired(_integer_lif(current, folded, self.form, surrogate, detach, temporal))
        return spikes


class ExactReadout(nn.Module):
    """Integer logits (T, N, classes) from integer edges, held in floats; ``scale`` makes them real."""

    def __init__(self, name: str, readout: Readout, edge: Edge) -> None:
        super().__init__()
        self.name, self.edge = name, edge
        self._held = (readout,)
        self.integers(torch.Size((1, 1)))

    @property
    def readout(self) -> Readout:
        """The trained readout whose parameters are used."""
        return self._held[0]

    def integers(self, area: torch.Size) -> tuple[QuantizedWeight, Tensor, Tensor]:
        """(weight, bias, scale of an integer logit) with gradients; ``area``: H, W of the source."""
        weight = quantized_weight(self.name, self.readout.layer)
        if weight.scale.numel() != 1:
            raise LoweringError(f"weights of {self.name!r} need one scale for the layer, so that logits compare")
        scale = weight.scale.float().reshape(()) * self.edge.scale / (area.numel() if self.readout.pool else 1)
        return weight, round_ste(self.readout.layer.bias.float() / scale), scale

    def forward(self, spikes: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias, scale = self.integers(spikes.shape[-2:])
        features = spikes.sum((-2, -1)) if self.readout.pool else spikes.flatten(2)
        return F.linear(features, weight.integers.float(), bias), scale


class ExactModel(nn.Module):
    """Samples (N, C, H, W) or frames (T, N, C, H, W) of u8 values to logits (T, N, classes); see the module's text."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.source = model
        self.steps = trace(model)
        self.layers = nn.ModuleList()
        self.edges: list[Edge] = []
        for step in self.steps:
            inputs = [self.edges[s] for s in step.sources]
            layer, edge = _exact(step, inputs)
            self.layers.append(layer)
            self.edges.append(edge)

    @property
    def encoding(self) -> DirectEncoding:
        """The model's input stage."""
        module = self.steps[0].module
        assert isinstance(module, DirectEncoding)
        return module

    def forward(self, samples: Tensor) -> Tensor:
        logits, scale = self.integer_steps(samples)
        return logits * scale

    def integer_steps(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Integer logits (T, N, classes) in floats, and the scale that makes them real."""
        with torch.autocast(samples.device.type, enabled=False):
            values = self.encoding.centred(samples, torch.float32)
            if values.shape[0] == 1:
                values = values.expand(self.encoding.time_steps, *values.shape[1:])
            edges: list[Tensor] = [values]
            for layer, step in zip(self.layers[1:-1], self.steps[1:-1], strict=True):
                edges.append(layer(*(edges[s] for s in step.sources)))
            logits, scale = self.layers[-1](edges[self.steps[-1].sources[0]])
        return logits, scale


class Sum(nn.Module):
    """Sum of two integer edges."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class WindowSum(nn.Module):
    """Average pooling times its window: sums stay integers, the edge's scale takes the division."""

    def __init__(self, pool: AvgPool) -> None:
        super().__init__()
        self.pool = pool
        self.kernel = int(pool.kernel_size)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return round_ste(self.pool(x) * self.kernel**2)


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


def _exact(step: Step, inputs: list[Edge]) -> tuple[nn.Module, Edge]:
    match step.module:
        case DirectEncoding():
            return nn.Identity(), Edge(step.module.scale, 255.0, pixels=True)
        case SpikingUnit():
            return ExactUnit(step.name, step.module, inputs), Edge(1.0, 1.0)
        case Readout():
            _refuse_pixels(step, inputs)
            return ExactReadout(step.name, step.module, inputs[0]), Edge(1.0, 1.0)
        case MaxPool():
            if inputs[0] != Edge(1.0, 1.0):
                raise LoweringError(f"{step.name!r}: max pooling is exact on spikes only")
            _check_pool(step.name, step.module)
            return step.module, inputs[0]
        case AvgPool():
            _refuse_pixels(step, inputs)
            _check_pool(step.name, step.module)
            area = int(step.module.kernel_size) ** 2  # type: ignore[arg-type]
            return WindowSum(step.module), Edge(inputs[0].scale / area, inputs[0].limit * area)
        case None:
            _refuse_pixels(step, inputs)
            if inputs[0].scale != inputs[1].scale:
                raise LoweringError(f"{step.name!r} adds edges of different scales {[e.scale for e in inputs]}")
            return Sum(), Edge(inputs[0].scale, inputs[0].limit + inputs[1].limit)
        case _:
            raise LoweringError(f"{step.name!r}: {type(step.module).__name__} has no exact integer form")


def _refuse_pixels(step: Step, inputs: list[Edge]) -> None:
    if any(e.pixels for e in inputs):
        raise LoweringError(f"{step.name!r} reads the input image; only a SpikingUnit may")


def _check_pool(name: str, pool: MaxPool | AvgPool) -> None:
    sizes = [pool.kernel_size, pool.stride, pool.padding]
    dilated = isinstance(pool, MaxPool) and pool.dilation != 1
    if (
        any(not isinstance(s, int) for s in sizes)
        or pool.ceil_mode
        or dilated
        or (isinstance(pool, AvgPool) and (pool.padding or pool.divisor_override))
    ):
        raise LoweringError(
            f"{name!r}: pools need one size for both axes, no dilation, no ceil_mode, no padded average"
        )


def _integer_sum(source: Source, x: Tensor) -> Tensor:
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
