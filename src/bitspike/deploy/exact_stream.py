"""Streams of fixed-point numbers, and readouts of them, in the exact training-side forward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import LoweringError
from ..layers import Readout, Scaling
from ..ops import round_ste, shift_round, symmetric_levels
from .edges import Edge, ExactLayer
from .exact_unit import integer_sum
from .fixed_point import FixedPoint, expected_current, fixed_point, power_of_two_step
from .fold import QuantizedWeight, Source, quantized_weight, source_form

__all__ = ["ExactStream", "ExactStreamReadout", "HeadIntegers"]

STREAM_BITS = 16
LOGIT_LIMIT = 2.0**30


class ExactStream(ExactLayer):
    """The sum of currents of integer edges, as one stream. ``currents`` as those of a SpikingUnit.

    labels: names of the currents. shares: a real factor on each. factors: real factors (T, groups) on the sum of a
    single weightless current, of which C / groups channels share one.
    """

    def __init__(
        self,
        name: str,
        currents: Sequence[nn.Module],
        labels: Sequence[str],
        shares: Sequence[float] = (),
        factors: Scaling | None = None,
    ) -> None:
        super().__init__(name)
        self.shares = tuple(shares) or (1.0,) * len(currents)
        self._held = tuple(currents)  # in a tuple: their parameters belong to the source model
        self.labels = tuple(labels)
        self.factors = factors
        self.bits = STREAM_BITS

    def integers(self, edges: Sequence[Edge]) -> tuple[list[Source], FixedPoint, Tensor]:
        """The currents' integer weights, the fixed-point parameters, and the real value of a step."""
        pairs = list(zip(self._held, edges, strict=True))
        sources = [
            source_form(self.name, current, edge.scale, edge.limit, share)
            for (current, edge), share in zip(pairs, self.shares, strict=True)
        ]
        if self.factors is not None:
            factors = self.factors.factors().float()
            shared = max(edges[0].shape[0] // factors.shape[1], 1)
            gains = factors.repeat_interleave(shared, 1)
            sources = [replace(s, gain=s.gain.to(gains.device) * gains) for s in sources]
        device = next((s.weight.device for s in sources if s.weight is not None), sources[0].gain.device)
        sources = [replace(s, gain=s.gain.to(device), offset=s.offset.to(device)) for s in sources]
        channels = next((s.weight.shape[0] for s in sources if s.weight is not None), edges[0].shape[0])
        channels = max(channels, *(s.gain.shape[-1] if s.gain.dim() else 1 for s in sources))
        scale = power_of_two_step(self._expected(sources, edges), self.bits)
        return sources, fixed_point(sources, channels, scale), scale

    def _expected(self, sources: list[Source], edges: Sequence[Edge]) -> Tensor:
        parts = [
            share * expected_current(current, source, edge).to(source.gain.device)
            for current, source, edge, share in zip(self._held, sources, edges, self.shares, strict=True)
        ]
        total: Tensor = sum(parts[1:], parts[0])
        return total if self.factors is None else total * self.factors.factors().detach().abs().max()

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        sources, _, scale = self.integers(inputs)
        return Edge("stream", scale, symmetric_levels(self.bits), self._expected(sources, inputs))

    def forward(self, *values: Tensor, edges: Sequence[Edge]) -> Tensor:
        sources, form, _ = self.integers(edges)
        sums = [integer_sum(s, x).double() for s, x in zip(sources, values, strict=True)]
        return requantized(sums, form, self.bits)


def requantized(sums: Sequence[Tensor], form: FixedPoint, bits: int) -> Tensor:
    """The stream (T, N, C, H, W) of integer sums, by the rule of ``deploy.ir.Stream`` in float64; returned in float32."""
    factors = form.multiplier[:, :, None, :, None, None]
    bias, unit = form.bias.view(-1, 1, 1), torch.exp2(form.shift).view(-1, 1, 1)
    value: Tensor = sum((m * x for m, x in zip(factors, sums, strict=True)), bias)
    half = torch.where(unit > 1, 0.5, 0.0)
    return (shift_round(value, unit, half, symmetric_levels(bits)) / unit).float()


@dataclass(frozen=True)
class HeadIntegers:
    """weight: of all heads, side by side; bias; streams: the requantisation of each head's features; scale of a logit."""

    weight: QuantizedWeight
    bias: Tensor
    streams: list[FixedPoint]
    bits: int
    scale: Tensor


class ExactStreamReadout(ExactLayer):
    """Logits of one or more readouts of streams, their mean: features are streams of their own, pooled where they are.

    Each has the bits that keep logits within 31 bits, 16 at most. Steps of the features are those of the first head's
    logits, so that the logits of all heads add up.
    """

    def __init__(self, name: str, readouts: Sequence[Readout], time_steps: int) -> None:
        super().__init__(name)
        self._held = tuple(readouts)
        self.time_steps = time_steps
        if len({readout.pool for readout in readouts}) > 1:
            raise LoweringError(f"{name!r} has a readout of pooled features and one of all features")

    @property
    def pool(self) -> bool:
        """Whether features are means over the pixels."""
        return self._held[0].pool

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "stream")
        self.integers(inputs)
        return Edge("logits", 1.0, 1.0)

    def integers(self, edges: Sequence[Edge]) -> HeadIntegers:
        """Everything that the readout adds to the graph, with gradients."""
        weights = [quantized_weight(self.name, readout.layer) for readout in self._held]
        if any(w.scale.numel() != 1 for w in weights):
            raise LoweringError(f"weights of {self.name!r} need one scale for the layer, so that logits compare")
        first = weights[0].scale.float().reshape(())
        weight = self._side_by_side(weights)
        products = self.time_steps * weight.integers.shape[1] * weight.largest
        bits = min(STREAM_BITS, 1 + math.floor(math.log2(LOGIT_LIMIT / products)))
        if bits < 2:
            raise LoweringError(f"{self.name!r}: {products} products a logit leave no bits for the stream")
        ratios = [w.scale.float().reshape(()) / (first * len(weights)) for w in weights]
        expected = [torch.as_tensor(e.expected).to(r.device).amax() * r for e, r in zip(edges, ratios, strict=True)]
        scale = power_of_two_step(torch.stack(expected), bits)
        streams = []
        for edge, ratio in zip(edges, ratios, strict=True):
            area = math.prod(edge.shape[1:]) if self.pool else 1
            gain = torch.as_tensor(edge.scale).to(ratio.device) * ratio / area
            source = Source(None, gain, torch.zeros((), device=ratio.device), edge.limit * area)
            streams.append(fixed_point([source], edge.shape[0], scale))
        logit = first.double() * scale
        bias = sum(readout.layer.bias.double() for readout in self._held) / len(self._held)
        return HeadIntegers(weight, round_ste(bias / logit), streams, bits, logit)

    def _side_by_side(self, weights: Sequence[QuantizedWeight]) -> QuantizedWeight:
        """The weights of all heads; where precisions differ, in the least symmetric one that holds them all."""
        integers, (bits, odd) = torch.cat([w.integers for w in weights], 1), (weights[0].bits, weights[0].odd)
        if len({(w.bits, w.odd) for w in weights}) > 1:
            bits, odd = max(w.bits + int(w.odd or w.bits == 1) for w in weights), False
        if bits > 8:
            raise LoweringError(f"weights of the heads of {self.name!r} together need {bits} bits, accepted: 8")
        return QuantizedWeight(integers, weights[0].scale, bits, odd)

    def forward(self, *values: Tensor, edges: Sequence[Edge]) -> tuple[Tensor, Tensor]:
        form = self.integers(edges)
        features = []
        for x, stream in zip(values, form.streams, strict=True):
            summed = x.double().sum((-2, -1), keepdim=True) if self.pool else x.double()
            features.append(requantized([summed], stream, form.bits).double().flatten(2))
        return F.linear(torch.cat(features, -1), form.weight.integers.double(), form.bias), form.scale
