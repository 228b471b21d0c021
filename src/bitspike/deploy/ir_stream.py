"""Nodes of residual streams and of attention with neurons between its products; see :mod:`.ir` for the edges.

Spiking transformers need them: streams of fixed-point numbers that every block adds to, masks computed from queries, and
products of two spike matrices whose sums go through neurons before they are used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Concat", "Gate", "MatMul", "MaxPool", "Mix", "Product", "Reduce", "Stream", "stream_shape"]

Int32 = NDArray[np.int32]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Stream:
    """Fixed-point sum of one to four edges of one shape (C, H, W): signed integers within ±L, L = 2^(bits-1) - 1.

    At step t, with S = 1 (one multiplier for all steps, s = 0) or S = T (s = t)::

        value  = sum_i multiplier[i, s, c] * source_i + bias[c]
        stream = clip((value + ((1 << shift[c]) >> 1)) >> shift[c], -L, L)

    ``>>`` is the arithmetic shift, so halves are rounded up. Nothing is carried from step to step.
    """

    sources: tuple[int, ...]
    multiplier: Int32
    bias: Int32
    shift: NDArray[np.uint8]
    bits: int


@dataclass(frozen=True)
class MaxPool:
    """Largest value of each window of a stream; windows end where the map ends, so padding never wins."""

    source: int
    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True)
class Reduce:
    """Current: sums of spikes (C, H, W) over the C / heads channels of each head, over all pixels (tokens), or both.

    Shapes: axis "channels" (heads, H, W), "tokens" (C, 1, 1), "both" (heads, 1, 1). "tokens" has one head and also sums
    a stream.
    """

    source: int
    heads: int
    axis: str


@dataclass(frozen=True)
class Gate:
    """Spikes (C, H, W) that a mask of spikes (G, H, W) or (G, 1, 1) lets pass: channel c reads mask c // (C / G)."""

    source: int
    gate: int


@dataclass(frozen=True)
class MatMul:
    """Current: products of spike matrices within one time step, which count coincidences.

    An edge (C, H, W) is read as ``heads`` matrices of C / heads rows and H·W columns. transpose "none": left · right and
    "left": leftᵀ · right, both of shape (heads · rows, H, W) with H, W of right; "right": left · rightᵀ of shape
    (heads · rows, columns, 1).
    """

    left: int
    right: int
    heads: int
    transpose: str = "none"


@dataclass(frozen=True)
class Concat:
    """Two to four edges of spikes, or of streams, one after the other along the channels."""

    sources: tuple[int, ...]


@dataclass(frozen=True)
class Mix:
    """Neurons without a membrane that see all earlier steps: spike[t] = sum_{j <= t} weight[t, j] source[j] >= threshold[t].

    ``weight`` (T, T), zero above the diagonal; ``threshold`` (T,).
    """

    source: int
    weight: Int32
    threshold: Int32


@dataclass(frozen=True)
class Product:
    """Current: left (G, H, W) times right (G, 1, 1), both sums of spikes."""

    left: int
    right: int


StreamNode = Stream | MaxPool | Reduce | Gate | MatMul | Concat | Mix | Product
AXES = {"channels": 1, "tokens": 2, "both": 3}  # of a Reduce -> code in artifacts
TRANSPOSES = {"none": 0, "left": 1, "right": 2}  # of a MatMul -> code in artifacts


def stream_sources(node: StreamNode) -> tuple[int, ...]:
    """Indices of the nodes that ``node`` reads."""
    match node:
        case Stream() | Concat():
            return node.sources
        case Gate():
            return (node.source, node.gate)
        case MatMul() | Product():
            return (node.left, node.right)
        case _:
            return (node.source,)


def stream_shape(node: StreamNode, shapes: list[Shape]) -> Shape:
    """Shape (C, H, W) of a node whose sources have ``shapes``."""
    channels, height, width = shapes[0]
    match node:
        case MaxPool():
            return (channels, *(slide(size, node.kernel, node.stride, node.padding) for size in (height, width)))  # type: ignore[return-value]
        case Reduce():
            return {
                "channels": (node.heads, height, width),
                "tokens": (channels, 1, 1),
                "both": (node.heads, 1, 1),
            }[node.axis]
        case MatMul():
            (rows, columns), (right_rows, _) = (matrix_size(s, node.heads) for s in shapes)
            if node.transpose == "right":
                return (node.heads * rows, right_rows, 1)
            return (node.heads * (columns if node.transpose == "left" else rows), *shapes[1][1:])
        case Concat():
            return (sum(shape[0] for shape in shapes), height, width)
        case _:
            return shapes[0]


def matrix_size(shape: Shape, heads: int) -> tuple[int, int]:
    """Rows and columns of each head's matrix."""
    return shape[0] // heads, shape[1] * shape[2]


def slide(size: int, kernel: int, stride: int, padding: int) -> int:
    """How many windows fit along an axis."""
    return (size + 2 * padding - kernel) // stride + 1
