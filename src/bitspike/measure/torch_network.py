"""An integer graph as plain float operations of torch: convolution, floor, compare.

Time is folded into the batch, scales and biases into the convolutions, a static first layer runs once, and a membrane
that provably never saturates is not clamped: this is the rival at its fastest, and still exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..deploy import ir
from ..deploy.check import Range, check
from .torch_streams import MixedNeurons, StreamSum, stream_operation

__all__ = ["torch_network"]


def torch_network(graph: ir.Graph) -> nn.Module:
    """Float pixels (N, C, H, W) in 0..255, or frames (N, T, C, H, W), to the graph's logits (N, classes) in floats.

    Exact where every integer of the graph stays below 2^24, as it does in what ``deploy.compile`` makes.
    """
    return _TorchNetwork(graph).eval()


class _TorchNetwork(nn.Module):
    """Edges are (T·N, C, H, W), or (N, C, H, W) where every step is the same."""

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__()
        self.graph_nodes = graph.nodes
        self.time_steps, self.frames = graph.time_steps, graph.input.frames
        self.zero_point = nn.Buffer(torch.tensor(graph.input.zero_point, dtype=torch.float32).view(-1, 1, 1))
        self.layers = nn.ModuleDict()
        ranges = check(graph)
        for index, node in enumerate(graph.nodes):
            match node:
                case ir.Lif():
                    self.layers[str(index)] = _Neurons(graph, node, ranges[index])
                case ir.Stream():
                    repeated = [_repeated(graph, source) for source in node.sources]
                    self.layers[str(index)] = StreamSum(graph, node, _current, repeated)
                case ir.Mix():
                    self.layers[str(index)] = MixedNeurons(graph, node, _current, _repeated(graph, node.source))
                case ir.Readout():
                    self.layers[str(index)] = _linear(node.weight, None)
                    self.bias = nn.Buffer(torch.from_numpy(node.bias * graph.time_steps).float())

    def forward(self, pixels: Tensor) -> Tensor:
        if self.frames > 1:
            pixels = pixels.transpose(0, 1).flatten(0, 1)
        edges: list[Tensor] = []
        for index, node in enumerate(self.graph_nodes):
            match node:
                case ir.Input():
                    edges.append(pixels - self.zero_point)
                case ir.Conv() | ir.Linear():
                    edges.append(edges[node.source])  # computed by what reads it
                case ir.Lif() | ir.Stream() | ir.Mix():
                    edges.append(self.layers[str(index)]([edges[s] for s in ir.sources(node)]))
                case ir.OrPool():
                    edges.append(F.max_pool2d(edges[node.source], node.kernel, node.stride, node.padding))
                case ir.SumPool():
                    edges.append(F.avg_pool2d(edges[node.source], node.kernel, node.stride, divisor_override=1))
                case ir.Add():
                    edges.append(edges[node.left] + edges[node.right])
                case ir.Attention():
                    edges.append(_attention(edges[node.query], edges[node.key], edges[node.value], node.heads))
                case ir.Readout():
                    features = edges[node.source].unflatten(0, (self.time_steps, -1)).sum(0)
                    features = features.sum((2, 3)) if node.pool else features.flatten(1)
                    return self.layers[str(index)](features) + self.bias
                case _:
                    edges.append(stream_operation(node, [edges[s] for s in ir.sources(node)]))
        raise AssertionError("a graph ends with its readout")


def _repeated(graph: ir.Graph, source: int) -> bool:
    """Whether the edge is the same at every step, and kept once: the static input, and what weighs it."""
    node = graph.nodes[source]
    origin = node.source if isinstance(node, ir.Conv | ir.Linear) else source
    return origin == 0 and graph.input.frames == 1


class _Neurons(nn.Module):
    """A Lif with the convolutions it reads; multiplier and bias live in their weights."""

    def __init__(self, graph: ir.Graph, node: ir.Lif, bounds: Range) -> None:
        super().__init__()
        self.time_steps = graph.time_steps
        self.currents = nn.ModuleList()
        bias: NDArray[Any] | None = node.bias
        self.repeated = []
        for source, multiplier in zip(node.sources, node.multiplier, strict=True):
            self.currents.append(_current(graph.nodes[source], multiplier, bias))
            bias = None
            self.repeated.append(_repeated(graph, source))
        self.limit = float(2 ** (node.membrane_bits - 1) - 1)
        self.leak, self.soft = 2.0**-node.leak_shift if node.leak_shift else 0.0, node.soft_reset
        assert bounds.potential_low is not None and bounds.potential_high is not None
        self.rounds = bool(node.membrane_shift.any())
        reach = max(-int(bounds.potential_low.min()), int(bounds.potential_high.max()))
        self.clips = self.rounds or node.soft_reset or reach > self.limit
        self.threshold = nn.Buffer(_channels(node.threshold))
        self.unit = nn.Buffer(_channels(2.0 ** node.membrane_shift.astype(np.float64)))
        self.per_unit = nn.Buffer(1 / self.unit)
        self.rounding = nn.Buffer(_channels(np.where(node.membrane_shift > 0, 0.5, 0.0)))

    def forward(self, sources: list[Tensor]) -> Tensor:
        steps = [self._steps(*each) for each in zip(self.currents, sources, self.repeated, strict=True)]
        spikes = []
        carry: Tensor | None = None
        for t in range(self.time_steps):
            u = steps[0][t] if len(steps) == 1 else steps[0][t] + steps[1][t]
            if carry is not None:
                u = u + (carry - torch.floor(carry * self.leak) if self.leak else carry)
            spike = (u >= self.threshold).to(u.dtype)
            spikes.append(spike)
            if t + 1 < self.time_steps:
                carry = self._store(u - spike * self.threshold if self.soft else u * (1 - spike))
        return torch.cat(spikes)

    def _steps(self, current: nn.Module, source: Tensor, repeated: bool) -> tuple[Tensor, ...]:
        values = current(source)
        if repeated:
            return (values,) * self.time_steps
        return torch.split(values, values.shape[0] // self.time_steps)

    def _store(self, rest: Tensor) -> Tensor:
        if not self.clips:
            return rest
        if not self.rounds:
            return rest.clamp(-self.limit, self.limit)
        return torch.floor(rest * self.per_unit + self.rounding).clamp(-self.limit, self.limit) * self.unit


class _Scale(nn.Module):
    """Shortcut or attention: multiplier * source + bias."""

    def __init__(self, multiplier: NDArray[Any], bias: NDArray[Any] | None) -> None:
        super().__init__()
        self.multiplier = nn.Buffer(_channels(multiplier))
        self.bias = nn.Buffer(_channels(np.zeros(1) if bias is None else bias))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.multiplier + self.bias


def _attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Coincidences (B, Cv, H, W) of ``ir.Attention``, in the order of multiplications that is cheaper."""
    q, k, v = (x.unflatten(1, (heads, -1)).flatten(3) for x in (query, key, value))  # (B, heads, channels, tokens)
    (channels, queries), (value_channels, tokens) = q.shape[2:], v.shape[2:]
    if channels * value_channels * (queries + tokens) <= queries * tokens * (channels + value_channels):
        out = (v @ k.transpose(2, 3)) @ q
    else:
        out = v @ (k.transpose(2, 3) @ q)
    return out.flatten(1, 2).unflatten(2, query.shape[2:])


def _current(node: ir.Node, multiplier: NDArray[Any], bias: NDArray[Any] | None) -> nn.Module:
    if isinstance(node, ir.Linear):
        linear = _linear(node.weight * multiplier[:, None].astype(np.int64), bias)
        return nn.Sequential(nn.Flatten(), linear, nn.Unflatten(1, (-1, 1, 1)))
    if not isinstance(node, ir.Conv):
        return _Scale(multiplier, bias)
    weight = torch.from_numpy(node.weight * multiplier[:, None, None, None].astype(np.int64)).float()
    outputs, inputs, *kernel = weight.shape
    size = (kernel[0], kernel[1])
    biased = bias is not None
    conv = nn.Conv2d(inputs * node.groups, outputs, size, node.stride, node.padding, groups=node.groups, bias=biased)
    return _filled(conv, weight, bias)


def _linear(weight: NDArray[Any], bias: NDArray[Any] | None) -> nn.Module:
    values = torch.from_numpy(np.asarray(weight)).float()
    return _filled(nn.Linear(values.shape[1], values.shape[0], bias=bias is not None), values, bias)


def _filled(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: NDArray[Any] | None) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(np.asarray(bias)).float())
    return layer.requires_grad_(False)


def _channels(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(values)).float().view(-1, 1, 1)
