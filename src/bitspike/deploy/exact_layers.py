"""Pools, sums and products of integer edges: the parameterless parts of the exact training-side forward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..encode import DirectEncoding
from ..errors import LoweringError
from ..layers import AvgPool, MatrixProduct, MaxPool, SelfAttention, SpikeSums
from ..layers.attention import spiking_attention, split_heads
from ..ops import round_ste
from .edges import SPIKES, Edge, ExactLayer

__all__ = [
    "Attend",
    "Concatenate",
    "HeadSums",
    "LargestValue",
    "LetPass",
    "Multiply",
    "Present",
    "Sum",
    "Times",
    "WindowSum",
]


class Present(ExactLayer):
    """The encoding: samples minus their zero point, at every step."""

    def __init__(self, name: str, encoding: DirectEncoding) -> None:
        super().__init__(name)
        self._held = (encoding,)

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        return Edge("input", self._held[0].scale, 255.0)

    def forward(self, samples: Tensor, *, edges: Sequence[Edge] = ()) -> Tensor:
        encoding = self._held[0]
        values = encoding.centred(samples, torch.float32)
        return values.expand(encoding.time_steps, *values.shape[1:]) if values.shape[0] == 1 else values


class Sum(ExactLayer):
    """Sum of two edges of spikes or counts."""

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "spikes", "counts")
        left, right = inputs
        if left.scale != right.scale:
            raise LoweringError(f"{self.name!r} adds edges of different scales {[left.scale, right.scale]}")
        return Edge("counts", left.scale, left.limit + right.limit)

    def forward(self, left: Tensor, right: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        return left + right


class WindowSum(ExactLayer):
    """Average pooling times its window: sums stay integers, the edge's scale takes the division."""

    def __init__(self, name: str, pool: AvgPool) -> None:
        super().__init__(name)
        check_pool(name, pool)
        self.pool = pool
        self.kernel = int(pool.kernel_size)  # type: ignore[arg-type]

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        (source,) = inputs
        self.only(inputs, "spikes", "counts", "stream")
        self._require_whole_windows(source.shape[1:])
        area, kind = self.kernel**2, "current" if source.kind == "stream" else "counts"
        return Edge(kind, source.scale / area, source.limit * area, source.reach)

    def _require_whole_windows(self, size: tuple[int, ...]) -> None:
        """Averages of fewer pixels at the border divide by another number, which no scale holds."""
        stride = int(self.pool.stride)  # type: ignore[arg-type]
        if self.pool.ceil_mode and size != (1, 1) and any((length - self.kernel) % stride for length in size):
            raise LoweringError(f"{self.name!r}: windows of {self.kernel} pixels cover {size} pixels in part only")

    def forward(self, x: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        self._require_whole_windows(tuple(x.shape[-2:]))
        exact = x.double() if edges[0].kind == "stream" else x
        return round_ste(self.pool(exact) * self.kernel**2)


class LargestValue(ExactLayer):
    """Max pooling of spikes or of a stream."""

    def __init__(self, name: str, pool: MaxPool) -> None:
        super().__init__(name)
        check_pool(name, pool)
        self.pool = pool

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "spikes", "stream")
        return inputs[0]

    def forward(self, x: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        largest: Tensor = self.pool(x)
        return largest


class Attend(ExactLayer):
    """Self-attention of spikes."""

    def __init__(self, name: str, operation: SelfAttention) -> None:
        super().__init__(name)
        self.operation = operation

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "spikes")
        channels, *size = inputs[1].shape
        return Edge("current", self.operation.scale, max(channels // self.operation.heads, 1) * math.prod(size))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        query, key, parts = (split_heads(x, self.operation.heads) for x in (query, key, value))
        return spiking_attention(query, key, parts).flatten(2, 3).view_as(value)


class HeadSums(ExactLayer):
    """Sums of spikes over the channels of each head, or over all pixels."""

    def __init__(self, name: str, operation: SpikeSums) -> None:
        super().__init__(name)
        self.operation = operation

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "spikes")
        channels, *size = inputs[0].shape
        tokens = 1 if self.operation.axis == "channels" else math.prod(size)
        features = 1 if self.operation.axis == "tokens" else max(channels // self.operation.heads, 1)
        return Edge("current", 1.0, tokens * features)

    def forward(self, x: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        if self.operation.axis == "tokens":
            return x.sum((-2, -1), keepdim=True)
        summed = x.unflatten(2, (self.operation.heads, -1)).sum(3)
        return summed.sum((-2, -1), keepdim=True) if self.operation.axis == "both" else summed


class Times(ExactLayer):
    """Sums of spikes at each pixel times sums over all pixels, divided by the number of pixels in the edge's scale."""

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "current")
        left, right = inputs
        scale = left.scale * right.scale / math.prod(left.shape[1:])
        return Edge("current", scale, left.limit * right.limit)

    def forward(self, left: Tensor, right: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        return left * right


class LetPass(ExactLayer):
    """Spikes that a mask lets pass."""

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "spikes")
        return SPIKES

    def forward(self, x: Tensor, mask: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        return x * mask.repeat_interleave(x.shape[2] // mask.shape[2], 2)


class Multiply(ExactLayer):
    """Products of matrices of spikes, as ``deploy.ir.MatMul``."""

    def __init__(self, name: str, operation: MatrixProduct) -> None:
        super().__init__(name)
        self.operation = operation

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "spikes")
        channels, *size = inputs[0].shape
        rows = max(channels // self.operation.heads, 1)
        return Edge("current", 1.0, rows if self.operation.transpose == "left" else math.prod(size))

    def forward(self, left: Tensor, right: Tensor, *, edges: Sequence[Edge]) -> Tensor:
        a, b = (split_heads(x, self.operation.heads) for x in (left, right))
        if self.operation.transpose == "right":
            return (a @ b.mT).flatten(2, 3)[..., None]
        product = (a.mT if self.operation.transpose == "left" else a) @ b
        return product.flatten(2, 3).unflatten(-1, right.shape[-2:])


class Concatenate(ExactLayer):
    """Streams, or spikes, one after the other along the channels; all of one scale."""

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        self.only(inputs, "spikes", "stream")
        first = inputs[0]
        return replace(first, reach=None if first.reach is None else first.reach.amax())

    def forward(self, *values: Tensor, edges: Sequence[Edge]) -> Tensor:
        return torch.cat(values, 2)


def check_pool(name: str, pool: MaxPool | AvgPool) -> None:
    """LoweringError where the pool has no form as a node."""
    sizes = [pool.kernel_size, pool.stride, pool.padding]
    if isinstance(pool, MaxPool):
        special = pool.dilation != 1 or pool.ceil_mode
    else:
        special = bool(pool.padding or pool.divisor_override)
    if any(not isinstance(s, int) for s in sizes) or special:
        raise LoweringError(
            f"{name!r}: pools need one size for both axes, no dilation, no ceil_mode, no padded average"
        )
