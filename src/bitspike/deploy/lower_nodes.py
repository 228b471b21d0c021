"""Nodes of an integer graph from the layers of an exact model, and its parameters as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import LoweringError
from . import ir
from .edges import Edge
from .exact_layers import Attend, Concatenate, HeadSums, LargestValue, LetPass, Multiply, Sum, Times, WindowSum
from .exact_mix import ExactMix
from .exact_stream import ExactStream, ExactStreamReadout
from .exact_unit import ExactReadout, ExactUnit
from .fixed_point import FixedPoint
from .fold import Source

__all__ = ["lowered"]


def lowered(graph: ir.Graph, layer: nn.Module, sources: Sequence[int], edges: Sequence[Edge]) -> int:
    """Append the nodes of ``layer``, which reads the nodes ``sources``; returns the index of the one that others read."""
    match layer:
        case ExactUnit():
            return _unit(graph, layer, sources, edges)
        case ExactStream():
            return _stream(graph, layer, sources, edges)
        case ExactReadout():
            form, bias, _ = layer.integers(edges[0].shape[1:])
            integers = _weight(layer.name, form.integers, form.bits, form.odd)
            pool = layer.readout.pool
            node: ir.Node = ir.Readout(sources[0], integers, _int32(layer.name, bias), form.bits, pool, form.odd)
        case ExactStreamReadout():
            return _stream_readout(graph, layer, sources, edges)
        case LargestValue():
            window = (int(layer.pool.kernel_size), int(layer.pool.stride), int(layer.pool.padding))  # type: ignore[arg-type]
            node = (ir.MaxPool if edges[0].kind == "stream" else ir.OrPool)(sources[0], *window)
        case WindowSum():
            node = ir.SumPool(sources[0], layer.kernel, int(layer.pool.stride))  # type: ignore[arg-type]
        case Sum():
            node = ir.Add(*sources)
        case Attend():
            node = ir.Attention(sources[0], sources[1], sources[2], layer.operation.heads)
        case HeadSums():
            node = ir.Reduce(sources[0], layer.operation.heads, layer.operation.axis)
        case LetPass():
            node = ir.Gate(*sources)
        case Multiply():
            node = ir.MatMul(sources[0], sources[1], layer.operation.heads, layer.operation.transpose)
        case Times():
            node = ir.Product(sources[0], sources[1])
        case ExactMix():
            weight, threshold, _ = layer.integers(edges)
            node = ir.Mix(sources[0], _int32(layer.name, weight), _int32(layer.name, threshold))
        case Concatenate():
            node = ir.Concat(tuple(sources))
        case _:
            raise LoweringError(f"{type(layer).__name__} has no node")
    return _append(graph, node, layer.name)


def _append(graph: ir.Graph, node: ir.Node, name: str) -> int:
    graph.nodes.append(node)
    graph.names.append(name)
    return len(graph.nodes) - 1


def _currents(
    graph: ir.Graph, name: str, forms: Sequence[Source], labels: Sequence[str], sources: Sequence[int]
) -> tuple[int, ...]:
    """Nodes of the weighted sources; the others are read as they are."""
    edges = []
    for form, label, source in zip(forms, labels, sources, strict=True):
        if form.weight is None:
            edges.append(source)
            continue
        weight = _weight(name, form.weight, form.bits, form.odd)
        node: ir.Node = ir.Linear(source, weight, form.bits, form.odd)
        if weight.ndim == 4:
            node = ir.Conv(source, weight, form.bits, form.stride, form.padding, form.groups, form.odd)
        edges.append(_append(graph, node, label))
    return tuple(edges)


def _unit(graph: ir.Graph, unit: ExactUnit, sources: Sequence[int], edges: Sequence[Edge]) -> int:
    forms, folded = unit.integers(edges)
    node = ir.Lif(
        _currents(graph, unit.name, forms, unit.labels, sources),
        _int32(unit.name, folded.multiplier),
        _int32(unit.name, folded.bias),
        _int32(unit.name, folded.threshold),
        _bytes(folded.membrane_shift),
        unit.form.membrane_bits,
        unit.form.leak_shift,
        unit.form.soft_reset,
    )
    return _append(graph, node, unit.name)


def _stream(graph: ir.Graph, layer: ExactStream, sources: Sequence[int], edges: Sequence[Edge]) -> int:
    forms, form, _ = layer.integers(edges)
    read = _currents(graph, layer.name, forms, layer.labels, sources)
    return _append(graph, _stream_node(layer.name, read, form, layer.bits), layer.name)


def _stream_node(name: str, sources: tuple[int, ...], form: FixedPoint, bits: int) -> ir.Stream:
    return ir.Stream(sources, _int32(name, form.multiplier), _int32(name, form.bias), _bytes(form.shift), bits)


def _stream_readout(graph: ir.Graph, layer: ExactStreamReadout, sources: Sequence[int], edges: Sequence[Edge]) -> int:
    form = layer.integers(edges)
    features = []
    for position, (source, stream) in enumerate(zip(sources, form.streams, strict=True)):
        name = f"{layer.name}.features.{position}"
        if layer.pool:
            source = _append(graph, ir.Reduce(source, 1, "tokens"), f"{name}.sums")
        features.append(_append(graph, _stream_node(layer.name, (source,), stream, form.bits), name))
    read = features[0] if len(features) == 1 else _append(graph, ir.Concat(tuple(features)), f"{layer.name}.features")
    weight = _weight(layer.name, form.weight.integers, form.weight.bits, form.weight.odd)
    bias = _int32(layer.name, form.bias)
    return _append(graph, ir.Readout(read, weight, bias, form.weight.bits, False, form.weight.odd), layer.name)


def _bytes(values: Tensor) -> NDArray[np.uint8]:
    return values.detach().cpu().numpy().astype(np.uint8)


def _weight(name: str, values: Tensor, bits: int, odd: bool) -> ir.Weight:
    array = values.detach().float().cpu().numpy()
    dtype = ir.weight_type(bits, odd)
    weight = array.astype(dtype)
    if not np.array_equal(weight, array):
        wrong = array[weight != array][0]
        raise LoweringError(f"{name!r} has a weight of {wrong:g}, accepted: integers of {np.iinfo(dtype).bits} bits")
    return weight


def _int32(name: str, values: Tensor) -> NDArray[np.int32]:
    array = values.detach().double().cpu().numpy()
    if not np.isfinite(array).all() or np.abs(array).max(initial=0) >= 2**31:
        raise LoweringError(f"{name!r} has a parameter of {np.abs(array).max()}, beyond 32 bits")
    return array.astype(np.int32)
