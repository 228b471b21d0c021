"""Integer graph: what a deployed network is.

Every edge carries one value per time step with shape (C, H, W), C channels, height H, width W:

* ``input``: the u8 samples minus their per-channel zero point, a signed number;
* ``spikes``: 0 or 1;
* ``counts``: small non-negative integers (sums of spikes), at most 255;
* ``current``: 32-bit signed sums, read by what makes spikes or a stream of them;
* ``stream``: fixed-point numbers of 2 to 24 bits, see :class:`Stream`.

Nodes stand in topological order; ``graph.nodes[0]`` is the :class:`Input` and the last node the
:class:`Readout`. What a graph computes is defined by ``deploy.reference``; ``deploy.check`` says which graphs
are valid. Needs numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ir_stream import (
    Concat,
    Gate,
    MatMul,
    MaxPool,
    Mix,
    Product,
    Reduce,
    Stream,
    StreamNode,
    slide,
    stream_shape,
    stream_sources,
)

__all__ = [
    "Add",
    "Attention",
    "Concat",
    "Conv",
    "Firing",
    "Gate",
    "Graph",
    "Input",
    "Lif",
    "Linear",
    "MatMul",
    "MaxPool",
    "Mix",
    "Node",
    "OrPool",
    "Product",
    "Readout",
    "Reduce",
    "Stream",
    "SumPool",
    "Weight",
    "largest_weight",
    "node_shapes",
    "sources",
    "weight_type",
]

Weight = NDArray[np.signedinteger[Any]]  # int8 or int16, see weight_type
Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class Input:
    """u8 samples q; the edge carries ``q - zero_point[c]``, and padding adds exact zeros to it.

    ``frames`` is 1 for a static sample that is presented at every step, or T for one frame per step.
    """

    channels: int
    height: int
    width: int
    frames: int
    zero_point: tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """current = cross-correlation of the source with ``weight`` (M, C / groups, kh, kw), zero padded.

    Weights are symmetric ``bits``-bit integers: -1 or +1 at 1 bit, else within ±(2^(bits-1) - 1). With ``odd`` they are
    the 2^bits odd integers within ±(2^bits - 1), so zero is none of them; 1 bit has these levels anyway and is not
    marked.
    """

    source: int
    weight: Weight
    bits: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    odd: bool = False


@dataclass(frozen=True)
class Linear:
    """current = ``weight`` (M, C·H·W) times the source flattened in (C, H, W) order; shape (M, 1, 1).

    ``bits`` and ``odd`` as in :class:`Conv`.
    """

    source: int
    weight: Weight
    bits: int
    odd: bool = False


@dataclass(frozen=True)
class Lif:
    """Leaky integrate-and-fire neurons on integers, one parameter set per channel c.

    With L = 2^(membrane_bits-1) - 1, k = membrane_shift[c], carry = 0 at the start, for each step::

        leaked = carry - (carry >> leak_shift)          (carry itself when leak_shift is 0: no leak)
        u      = leaked + sum_i multiplier[i, c] * source_i + bias[c]
        spike  = u >= threshold[c]
        rest   = 0 if spike else u                      (hard reset)
               = u - spike * threshold[c]               (soft reset)
        carry  = clip((rest + (2^k >> 1)) >> k, -L, L) << k

    ``>>`` is the arithmetic shift (floor). One or two sources; a second one is a shortcut.
    """

    sources: tuple[int, ...]
    multiplier: Int32
    bias: Int32
    threshold: Int32
    membrane_shift: NDArray[np.uint8]
    membrane_bits: int
    leak_shift: int
    soft_reset: bool = False


@dataclass(frozen=True)
class OrPool:
    """Max pooling of spikes: 1 where any spike lies in the window (padding counts as 0)."""

    source: int
    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True)
class SumPool:
    """Sum over windows: average pooling whose division is folded into what follows. Counts; of a stream a current."""

    source: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Add:
    """Sum of two spike or count edges of one shape (spike-element-wise residual)."""

    left: int
    right: int


@dataclass(frozen=True)
class Attention:
    """Softmax-free self-attention on spikes (spiking self-attention), within one time step.

    Tokens are pixels, channels are split into ``heads`` equal blocks. From spikes query (C, H, W), key (C, H', W') and
    value (Cv, H', W'), with N = H·W and N' = H'·W' tokens and d = C / heads, the current (Cv, H, W) of head h is::

        current[h, j, n] = sum_{i < d} query[h, i, n] * sum_{m < N'} key[h, i, m] * value[h, j, m]

    It counts coincidences, so it lies in 0 .. d·N'; any scale is in the multiplier and threshold of the Lif.
    """

    query: int
    key: int
    value: int
    heads: int


@dataclass(frozen=True)
class Readout:
    """Logits: ``sum_t (weight @ features_t + bias)`` as int32, weight (classes, K).

    Features are the source flattened in (C, H, W) order, or with ``pool`` its sums over H and W. ``bits`` and ``odd`` as
    in :class:`Conv`.
    """

    source: int
    weight: Weight
    bias: Int32
    bits: int
    pool: bool = False
    odd: bool = False


Firing = Lif | Mix  # nodes whose spikes a trace holds
Node = Input | Conv | Linear | Lif | OrPool | SumPool | Add | Attention | Readout | StreamNode


@dataclass
class Graph:
    """A deployable network of ``time_steps`` steps.

    ``names`` has one label per node; ``rates`` one mean firing rate per node (NaN where it is not a spike edge or
    was not measured); ``meta`` is free JSON that no computation reads.
    """

    time_steps: int
    nodes: list[Node]
    names: list[str] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def input(self) -> Input:
        node = self.nodes[0]
        assert isinstance(node, Input)
        return node

    @property
    def readout(self) -> Readout:
        node = self.nodes[-1]
        assert isinstance(node, Readout)
        return node


def sources(node: Node) -> tuple[int, ...]:
    """Indices of the nodes that ``node`` reads."""
    match node:
        case Input():
            return ()
        case Lif():
            return node.sources
        case Add():
            return (node.left, node.right)
        case Attention():
            return (node.query, node.key, node.value)
        case Conv() | Linear() | OrPool() | SumPool() | Readout():
            return (node.source,)
        case _:
            return stream_sources(node)


def node_shapes(graph: Graph) -> list[tuple[int, int, int]]:
    """Shape (C, H, W) of every node's edge; a Readout's is (classes, 1, 1)."""
    shapes: list[tuple[int, int, int]] = []
    for node in graph.nodes:
        match node:
            case Input():
                shapes.append((node.channels, node.height, node.width))
            case Conv():
                _, h, w = shapes[node.source]
                m, _, kh, kw = node.weight.shape
                shapes.append((m, slide(h, kh, node.stride, node.padding), slide(w, kw, node.stride, node.padding)))
            case Linear() | Readout():
                shapes.append((node.weight.shape[0], 1, 1))
            case Lif():
                shapes.append(shapes[node.sources[0]])
            case OrPool():
                c, h, w = shapes[node.source]
                shapes.append(
                    (
                        c,
                        slide(h, node.kernel, node.stride, node.padding),
                        slide(w, node.kernel, node.stride, node.padding),
                    )
                )
            case SumPool():
                c, h, w = shapes[node.source]
                shapes.append((c, slide(h, node.kernel, node.stride, 0), slide(w, node.kernel, node.stride, 0)))
            case Add():
                shapes.append(shapes[node.left])
            case Attention():
                shapes.append((shapes[node.value][0], *shapes[node.query][1:]))
            case _:
                shapes.append(stream_shape(node, [shapes[s] for s in sources(node)]))
    return shapes


def weight_type(bits: int, odd: bool) -> type[np.signedinteger[Any]]:
    """What a node holds its weights in: int8, but int16 for odd levels of 8 bits, which reach ±255."""
    return np.int16 if odd and bits == 8 else np.int8


def largest_weight(node: Conv | Linear | Readout) -> int:
    """The largest |weight| that the node's precision allows."""
    return 2**node.bits - 1 if node.odd or node.bits == 1 else 2 ** (node.bits - 1) - 1
