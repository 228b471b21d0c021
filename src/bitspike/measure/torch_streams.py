"""Streams, products of spike matrices, masks and mixing neurons of an integer graph as float operations of torch.

Part of :mod:`.torch_network`: edges are (T·N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..deploy import ir

__all__ = ["MixedNeurons", "StreamSum", "stream_operation"]

Current = Callable[[ir.Node, NDArray[Any], NDArray[Any] | None], nn.Module]  # of a source, with multiplier and bias


class StreamSum(nn.Module):
    """A Stream with the convolutions it reads; multiplier and bias live in their weights unless they change with time.

    repeated: which sources are the same at every step, and given once.
    """

    def __init__(self, graph: ir.Graph, node: ir.Stream, current: Current, repeated: Sequence[bool]) -> None:
        super().__init__()
        self.time_steps, self.repeated = graph.time_steps, tuple(repeated)
        constant = node.multiplier.shape[1] == 1
        bias: NDArray[Any] | None = node.bias
        self.currents, self.factors = nn.ModuleList(), nn.ParameterList()
        for source, multiplier in zip(node.sources, node.multiplier, strict=True):
            folded = multiplier[0] if constant else np.ones_like(multiplier[0])
            self.currents.append(current(graph.nodes[source], folded, bias if constant else None))
            factor = torch.ones(0) if constant else torch.from_numpy(multiplier).float()  # (T, C)
            self.factors.append(nn.Parameter(factor, requires_grad=False))
            bias = None
        late = np.zeros_like(node.bias) if constant else node.bias
        self.late = nn.Buffer(torch.from_numpy(late).float().view(-1, 1, 1))
        self.constant, self.limit = constant, float(2 ** (node.bits - 1) - 1)
        self.shifts = bool(node.shift.any())
        self.per_unit = nn.Buffer(torch.from_numpy(2.0 ** -node.shift.astype(np.float64)).float().view(-1, 1, 1))
        rounding = np.where(node.shift > 0, 0.5, 0.0)
        self.rounding = nn.Buffer(torch.from_numpy(rounding).float().view(-1, 1, 1))

    def forward(self, sources: list[Tensor]) -> Tensor:
        total: Tensor | None = None
        for current, factor, source, repeated in zip(self.currents, self.factors, sources, self.repeated, strict=True):
            value = current(source)
            if repeated:
                value = torch.cat([value] * self.time_steps)
            if not self.constant:
                value = (value.unflatten(0, (self.time_steps, -1)) * factor[:, None, :, None, None]).flatten(0, 1)
            total = value if total is None else total + value
        assert total is not None
        if not self.constant:
            total = total + self.late
        if self.shifts:
            total = torch.floor(total * self.per_unit + self.rounding)
        return total.clamp(-self.limit, self.limit)


class MixedNeurons(nn.Module):
    """Neurons that see weighted sums of all earlier steps."""

    def __init__(self, graph: ir.Graph, node: ir.Mix, current: Current, repeated: bool) -> None:
        super().__init__()
        ones = np.ones(ir.node_shapes(graph)[node.source][0], np.int32)
        self.current, self.repeated = current(graph.nodes[node.source], ones, None), repeated
        self.weight = nn.Buffer(torch.from_numpy(node.weight).float())
        self.threshold = nn.Buffer(torch.from_numpy(node.threshold).float()[:, None])

    def forward(self, sources: list[Tensor]) -> Tensor:
        values = self.current(sources[0])
        steps = len(self.weight)
        if self.repeated:
            values = torch.cat([values] * steps)
        mixed = self.weight @ values.reshape(steps, -1)
        return (mixed >= self.threshold).to(values.dtype).reshape(values.shape)


def stream_operation(node: ir.Node, sources: list[Tensor]) -> Tensor:
    """Edges of the nodes that have no parameters."""
    match node:
        case ir.MaxPool():
            return F.max_pool2d(sources[0], node.kernel, node.stride, node.padding)
        case ir.Reduce():
            return _reduce(node, sources[0])
        case ir.Gate():
            x, gate = sources
            return (x.unflatten(1, (gate.shape[1], -1)) * gate[:, :, None]).flatten(1, 2)
        case ir.MatMul():
            return _matrix_product(node, *sources)
        case ir.Concat():
            return torch.cat(sources, 1)
        case ir.Product():
            return sources[0] * sources[1]
    raise AssertionError(f"{type(node).__name__} is not a node without parameters")


def _reduce(node: ir.Reduce, x: Tensor) -> Tensor:
    if node.axis == "tokens":
        return x.sum((2, 3), keepdim=True)
    summed = x.unflatten(1, (node.heads, -1)).sum(2)
    return summed if node.axis == "channels" else summed.sum((2, 3), keepdim=True)


def _matrix_product(node: ir.MatMul, left: Tensor, right: Tensor) -> Tensor:
    a, b = (x.unflatten(1, (node.heads, -1)).flatten(3) for x in (left, right))  # (B, heads, rows, columns)
    if node.transpose == "right":
        return (a @ b.transpose(2, 3)).flatten(1, 2).unsqueeze(-1)
    product = (a.transpose(2, 3) if node.transpose == "left" else a) @ b
    return product.flatten(1, 2).unflatten(2, right.shape[2:])
