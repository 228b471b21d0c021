"""Which graphs are valid, and proofs that their integers fit.

``check(graph)`` walks the graph once, verifies every rule of the format and returns per-node value ranges. The
native loader repeats the same proofs on what it reads and never trusts a stored bound.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import LoweringError
from . import check_stream, ir
from .ranges import Array, Range, ends, within_int32

__all__ = ["Range", "check", "fits_int16"]

MAX_DIMENSION = 65535
MAX_TIME_STEPS = 1024
MAX_NODES = 4096


def check(graph: ir.Graph) -> list[Range]:
    """Value ranges per node; LoweringError naming the node when a rule is broken."""
    if not 1 <= graph.time_steps <= MAX_TIME_STEPS:
        raise LoweringError(f"time_steps is {graph.time_steps}, accepted: 1 to {MAX_TIME_STEPS}")
    if not 2 <= len(graph.nodes) <= MAX_NODES:
        raise LoweringError(f"a graph has 2 to {MAX_NODES} nodes, this one {len(graph.nodes)}")
    for field, values in (("names", graph.names), ("rates", graph.rates)):
        if values and len(values) != len(graph.nodes):
            raise LoweringError(f"{len(values)} {field} for {len(graph.nodes)} nodes, accepted: none, or one per node")
    used: set[int] = set()
    ranges: list[Range] = []
    shapes: list[tuple[int, int, int]] = []
    for index, node in enumerate(graph.nodes):
        where = f"node {index} ({type(node).__name__}{f' {graph.names[index]!r}' if graph.names else ''})"
        sources = ir.sources(node)
        if isinstance(node, ir.Input) != (index == 0) or isinstance(node, ir.Readout) != (
            index == len(graph.nodes) - 1
        ):
            raise LoweringError(f"{where}: the first node, and only it, is an Input, the last, and only it, a Readout")
        if any(not 0 <= s < index for s in sources):
            raise LoweringError(f"{where}: sources {sources} must be earlier nodes")
        used.update(sources)
        _check_kinds(where, node, [ranges[s].kind for s in sources])
        _check_shapes(where, node, [shapes[s] for s in sources])
        shapes = ir.node_shapes(ir.Graph(graph.time_steps, graph.nodes[: index + 1]))
        if any(not 1 <= d <= MAX_DIMENSION for d in shapes[-1]):
            raise LoweringError(f"{where}: output shape {shapes[-1]} out of range 1 to {MAX_DIMENSION}")
        ranges.append(_range(where, node, ranges, shapes, graph.time_steps))
    unused = set(range(len(graph.nodes) - 1)) - used
    if unused:
        raise LoweringError(f"nodes {sorted(unused)} are never used")
    return ranges


def fits_int16(bounds: Range) -> NDArray[np.bool_]:
    """Per channel: do threshold and membrane, after reset and rounding too, stay within 16 bits at every step?"""
    assert bounds.narrow is not None
    return bounds.narrow


_ACCEPTED = {
    ir.Conv: {"input", "spikes", "counts"},
    ir.Linear: {"input", "spikes", "counts"},
    ir.Lif: {"current", "stream", "spikes", "counts"},
    ir.OrPool: {"spikes"},
    ir.SumPool: {"spikes", "counts", "stream"},
    ir.Add: {"spikes", "counts"},
    ir.Attention: {"spikes"},
    ir.Readout: {"spikes", "counts", "stream"},
} | check_stream.ACCEPTED


def _check_kinds(where: str, node: ir.Node, kinds: list[str]) -> None:
    accepted = _ACCEPTED.get(type(node), set())
    for kind in kinds:
        if kind not in accepted:
            raise LoweringError(f"{where}: reads an edge of kind {kind}, accepted: {', '.join(sorted(accepted))}")


def _check_shapes(where: str, node: ir.Node, shapes: list[tuple[int, int, int]]) -> None:
    def require(condition: bool, text: str) -> None:
        if not condition:
            raise LoweringError(f"{where}: {text}")

    match node:
        case ir.Input():
            require(len(node.zero_point) == node.channels, "one zero point per channel is needed")
            require(all(0 <= z <= 255 for z in node.zero_point), f"zero points {node.zero_point} must be 0 to 255")
            require(node.frames >= 1, f"frames is {node.frames}, accepted: 1 or time_steps")
        case ir.Conv():
            (channels, height, width), (m, per_group, kh, kw) = shapes[0], node.weight.shape
            require(
                node.groups >= 1 and m % node.groups == 0,
                f"{m} output channels do not divide into {node.groups} groups",
            )
            require(per_group * node.groups == channels, f"weight {node.weight.shape} does not fit {channels} channels")
            require(
                node.stride >= 1 and 0 <= node.padding < min(kh, kw), f"stride {node.stride}, padding {node.padding}"
            )
            fits = height + 2 * node.padding >= kh and width + 2 * node.padding >= kw
            require(fits, "the kernel is larger than the padded input")
            _check_weight(where, node)
        case ir.Linear():
            require(math.prod(shapes[0]) == node.weight.shape[1], f"weight {node.weight.shape} on source {shapes[0]}")
            _check_weight(where, node)
        case ir.Readout():
            features = shapes[0][0] if node.pool else math.prod(shapes[0])
            require(features == node.weight.shape[1], f"weight {node.weight.shape} on {features} features")
            require(
                node.bias.shape == node.weight.shape[:1], f"bias {node.bias.shape} for {node.weight.shape[0]} classes"
            )
            _check_weight(where, node)
        case ir.Lif():
            require(bool(shapes), "a Lif has 1 or 2 sources")
            channels = shapes[0][0]
            require(len(shapes) <= 2 and len(set(shapes)) == 1, f"1 or 2 sources of one shape, not {shapes}")
            require(node.multiplier.shape == (len(shapes), channels), f"multiplier {node.multiplier.shape}")
            for name in ("bias", "threshold", "membrane_shift"):
                shape = getattr(node, name).shape
                require(shape == (channels,), f"{name} has shape {shape}, expected ({channels},)")
            require(2 <= node.membrane_bits <= 16, f"membrane_bits is {node.membrane_bits}, accepted: 2 to 16")
            require(0 <= node.leak_shift <= 15, f"leak_shift is {node.leak_shift}, accepted: 0 to 15")
            require(int(node.membrane_shift.max()) <= 24, "membrane_shift is at most 24")
        case ir.OrPool() | ir.SumPool():
            padding = node.padding if isinstance(node, ir.OrPool) else 0
            require(node.kernel >= 1 and node.stride >= 1 and 0 <= padding < node.kernel, "kernel, stride or padding")
            require(min(shapes[0][1:]) + 2 * padding >= node.kernel, f"window {node.kernel} is larger than {shapes[0]}")
        case ir.Add():
            require(shapes[0] == shapes[1], f"shapes {shapes[0]} and {shapes[1]} differ")
        case ir.Attention():
            query, key, value = shapes
            require(query[0] == key[0], f"query has {query[0]} channels, key {key[0]}, accepted: equal numbers")
            require(key[1:] == value[1:], f"key has {key[1:]} pixels, value {value[1:]}, accepted: equal sizes")
            require(
                node.heads >= 1 and key[0] % node.heads == 0 and value[0] % node.heads == 0,
                f"{node.heads} heads do not divide {key[0]} key and {value[0]} value channels",
            )
        case _:
            check_stream.check_shapes(where, node, shapes)


def _check_weight(where: str, node: ir.Conv | ir.Linear | ir.Readout) -> None:
    weight, bits = node.weight, node.bits
    if not 1 <= bits <= 8:
        raise LoweringError(f"{where}: weight bits is {bits}, accepted: 1 to 8")
    if bits == 1:
        if node.odd:
            raise LoweringError(
                f"{where}: 1-bit weights are marked as odd, accepted: odd=False, they are -1 or +1 anyway"
            )
        if not np.isin(weight, (-1, 1)).all():
            raise LoweringError(f"{where}: 1-bit weights must be -1 or +1, found {np.unique(weight)[:5]}")
        return
    largest = ir.largest_weight(node)
    kind = "odd weights" if node.odd else "weights"
    if np.abs(weight.astype(np.int64)).max() > largest:
        raise LoweringError(f"{where}: {bits}-bit {kind} must lie within ±{largest}")
    if node.odd and not (weight & 1).all():
        raise LoweringError(
            f"{where}: {bits}-bit odd weights must be odd, found {np.unique(weight[weight & 1 == 0])[:5]}"
        )


def _range(
    where: str, node: ir.Node, ranges: list[Range], shapes: list[tuple[int, int, int]], time_steps: int
) -> Range:
    match node:
        case ir.Input():
            if node.frames not in (1, time_steps):
                raise LoweringError(f"{where}: frames is {node.frames}, accepted: 1 or {time_steps}")
            zero = np.asarray(node.zero_point, np.int64)
            return Range("input", -zero, 255 - zero)
        case ir.Conv():
            return Range("current", *within_int32(where, *_product(node.weight, ranges[node.source], node.groups)))
        case ir.Linear():
            repeat = math.prod(shapes[node.source][1:])
            return Range(
                "current", *within_int32(where, *_product(node.weight, _repeat(ranges[node.source], repeat), 1))
            )
        case ir.Readout():
            area = math.prod(shapes[node.source][1:])
            source = ranges[node.source]
            if node.pool:
                source = Range(source.kind, source.low * area, source.high * area)
            else:
                source = _repeat(source, area)
            low, high = _product(node.weight, source, 1)
            return Range(
                "logits", *within_int32(where, (low + node.bias) * time_steps, (high + node.bias) * time_steps)
            )
        case ir.Lif():
            low = node.bias.astype(np.int64)
            high = low.copy()
            for multiplier, s in zip(node.multiplier.astype(np.int64), node.sources, strict=True):
                least, most = within_int32(where, *ends(multiplier, ranges[s]))
                low, high = low + least, high + most
            carry = np.int64(2 ** (node.membrane_bits - 1) - 1) << node.membrane_shift.astype(np.int64)
            low, high = within_int32(where, low - carry, high + carry)
            threshold = np.abs(node.threshold.astype(np.int64))
            taken = threshold if node.soft_reset else 0 * threshold
            rounding = (np.int64(1) << node.membrane_shift.astype(np.int64)) >> 1
            least, most = within_int32(where, low - taken, high + taken + rounding)
            narrow = (least >= -(2**15)) & (most < 2**15) & (threshold < 2**15)
            ones = np.ones(shapes[-1][0], np.int64)
            return Range("spikes", 0 * ones, ones, low, high, narrow)
        case ir.OrPool():
            return ranges[node.source]
        case ir.SumPool():
            source, area = ranges[node.source], node.kernel**2
            if source.kind == "stream":
                return Range("current", *within_int32(where, source.low * area, source.high * area))
            return _counts(where, source.high * area)
        case ir.Add():
            return _counts(where, ranges[node.left].high + ranges[node.right].high)
        case ir.Attention():
            channels, height, width = shapes[node.key]
            most = np.full(shapes[-1][0], channels // node.heads * height * width, np.int64)
            return Range("current", *within_int32(where, 0 * most, most))
        case _:
            read = ir.sources(node)
            edges = [ranges[s] for s in read]
            return check_stream.stream_range(where, node, edges, [shapes[s] for s in read], shapes[-1], time_steps)


def _counts(where: str, high: Array) -> Range:
    if high.max() > 255:
        raise LoweringError(f"{where}: counts reach {int(high.max())}, at most 255 fit in a byte")
    return Range("counts", 0 * high, high)


def _repeat(source: Range, times: int) -> Range:
    return Range(source.kind, np.repeat(source.low, times), np.repeat(source.high, times))


def _product(weight: ir.Weight, source: Range, groups: int) -> tuple[Array, Array]:
    """Bounds (M,) of weight (M, K, ...) times a source bounded per input channel."""
    rows = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).astype(np.int64)
    positive, negative = np.maximum(rows, 0).sum(-1), np.minimum(rows, 0).sum(-1)  # (groups, M / groups, K)
    low, high = (b.reshape(groups, 1, -1) for b in (np.minimum(source.low, 0), np.maximum(source.high, 0)))
    smallest = (positive * low + negative * high).sum(-1)
    largest = (positive * high + negative * low).sum(-1)
    return smallest.reshape(-1), largest.reshape(-1)
