"""Rules and bounds of the nodes of :mod:`.ir_stream`; part of :mod:`.check`."""

from __future__ import annotations

import numpy as np

from ..errors import LoweringError
from . import ir
from .ir_stream import AXES, TRANSPOSES, Shape, StreamNode, matrix_size
from .ranges import Array, Range, ends, within_int32

__all__ = ["ACCEPTED", "check_shapes", "stream_range"]

MAX_SOURCES = 4
ACCEPTED = {  # kinds of edges that a node reads
    ir.Stream: {"current", "stream", "spikes", "counts", "input"},
    ir.MaxPool: {"stream"},
    ir.Reduce: {"spikes", "stream"},
    ir.Gate: {"spikes"},
    ir.MatMul: {"spikes"},
    ir.Concat: {"spikes", "stream"},
    ir.Mix: {"current", "stream", "spikes", "counts"},
    ir.Product: {"current", "counts", "spikes"},
}


def check_shapes(where: str, node: StreamNode, shapes: list[Shape]) -> None:
    """LoweringError where shapes or parameters break a rule."""

    def require(condition: bool, text: str) -> None:
        if not condition:
            raise LoweringError(f"{where}: {text}")

    match node:
        case ir.Stream():
            require(
                1 <= len(shapes) <= MAX_SOURCES and len(set(shapes)) == 1, f"1 to 4 sources of one shape, not {shapes}"
            )
            channels, given = shapes[0][0], node.multiplier.shape
            require(
                node.multiplier.ndim == 3 and (given[0], given[2]) == (len(shapes), channels) and given[1] >= 1,
                f"multiplier has shape {given}, expected ({len(shapes)}, 1 or time_steps, {channels})",
            )
            for name in ("bias", "shift"):
                shape = getattr(node, name).shape
                require(shape == (channels,), f"{name} has shape {shape}, expected ({channels},)")
            require(int(node.shift.max()) <= 30, f"shift is {int(node.shift.max())}, accepted: 0 to 30")
            require(2 <= node.bits <= 24, f"bits is {node.bits}, accepted: 2 to 24")
        case ir.MaxPool():
            require(
                node.kernel >= 1 and node.stride >= 1 and 0 <= node.padding < node.kernel, "kernel, stride or padding"
            )
            fits = min(shapes[0][1:]) + 2 * node.padding >= node.kernel
            require(fits, f"window {node.kernel} is larger than {shapes[0]}")
        case ir.Reduce():
            require(node.axis in AXES, f"axis is {node.axis!r}, accepted: {', '.join(AXES)}")
            _check_heads(where, node.heads, shapes)
            require(node.axis != "tokens" or node.heads == 1, f"heads is {node.heads}, accepted over tokens: 1")
        case ir.Gate():
            (channels, *size), (masks, *mask_size) = shapes
            require(channels % masks == 0, f"{masks} masks do not divide {channels} channels")
            require(mask_size in (size, [1, 1]), f"masks of {mask_size} pixels, accepted: {size} or [1, 1]")
        case ir.MatMul():
            require(node.transpose in TRANSPOSES, f"transpose is {node.transpose!r}, accepted: {', '.join(TRANSPOSES)}")
            _check_heads(where, node.heads, shapes)
            summed = _summed(node, shapes)
            require(summed[0] == summed[1], f"left has {summed[0]} values to sum over, right {summed[1]}")
        case ir.Concat():
            require(2 <= len(shapes) <= MAX_SOURCES, f"{len(shapes)} sources, accepted: 2 to 4")
            require(len({s[1:] for s in shapes}) == 1, f"sources of one height and width, not {shapes}")
        case ir.Mix():
            steps = node.threshold.shape
            require(
                len(steps) == 1 and node.weight.shape == steps * 2, f"weight {node.weight.shape}, threshold {steps}"
            )
            require(not np.triu(node.weight, 1).any(), "weights above the diagonal read later steps")
        case ir.Product():
            left, right = shapes
            require(right == (left[0], 1, 1), f"right has shape {right}, expected ({left[0]}, 1, 1)")


def _check_heads(where: str, heads: int, shapes: list[Shape]) -> None:
    if heads < 1 or any(shape[0] % heads for shape in shapes):
        raise LoweringError(f"{where}: {heads} heads do not divide {' and '.join(str(s[0]) for s in shapes)} channels")


def _summed(node: ir.MatMul, shapes: list[Shape]) -> tuple[int, int]:
    """How many values of each operand a sum of products runs over."""
    (rows, columns), (right_rows, right_columns) = (matrix_size(s, node.heads) for s in shapes)
    left = rows if node.transpose == "left" else columns
    return left, right_columns if node.transpose == "right" else right_rows


def stream_range(
    where: str, node: StreamNode, sources: list[Range], shapes: list[Shape], out: Shape, time_steps: int
) -> Range:
    """Bounds of the node's edge of shape ``out``, from those of its sources; LoweringError where 32 bits do not do."""
    match node:
        case ir.Stream():
            return _stream(where, node, sources, time_steps)
        case ir.MaxPool():
            return sources[0]
        case ir.Reduce():
            return _reduce(where, node, sources[0], shapes[0])
        case ir.Gate():
            return sources[0]
        case ir.MatMul():
            return _sums(where, _summed(node, shapes)[0], out[0])
        case ir.Concat():
            if len({s.kind for s in sources}) > 1:
                raise LoweringError(f"{where}: reads {', '.join(s.kind for s in sources)}, accepted: edges of one kind")
            return Range(
                sources[0].kind, np.concatenate([s.low for s in sources]), np.concatenate([s.high for s in sources])
            )
        case ir.Mix():
            return _mix(where, node, sources[0], time_steps)
        case ir.Product():
            left, right = sources
            corners = np.stack([ends(left.low, right), ends(left.high, right)])
            return Range("current", *within_int32(where, corners.min((0, 1)), corners.max((0, 1))))


def _sums(where: str, count: int, channels: int) -> Range:
    """Sums of ``count`` spikes each."""
    most = np.full(channels, count, np.int64)
    return Range("current", *within_int32(where, 0 * most, most))


def _stream(where: str, node: ir.Stream, sources: list[Range], time_steps: int) -> Range:
    if node.multiplier.shape[1] not in (1, time_steps):
        raise LoweringError(f"{where}: multipliers for {node.multiplier.shape[1]} steps, accepted: 1 or {time_steps}")
    bias = node.bias.astype(np.int64)
    low, high = bias, bias  # (C,), then (S, C)
    for multiplier, source in zip(node.multiplier.astype(np.int64), sources, strict=True):
        least, most = ends(multiplier, source)
        within_int32(where, least.min(0), most.max(0))
        low, high = low + least, high + most
    low, high = np.atleast_2d(low).min(0), np.atleast_2d(high).max(0)
    shift = node.shift.astype(np.int64)
    half = (np.int64(1) << shift) >> 1
    within_int32(where, low, high + half)
    limit = 2 ** (node.bits - 1) - 1
    return Range("stream", *(np.clip((bound + half) >> shift, -limit, limit) for bound in (low, high)))


def _reduce(where: str, node: ir.Reduce, source: Range, shape: Shape) -> Range:
    channels, height, width = shape
    area = height * width
    if node.axis == "tokens":
        return Range("current", *within_int32(where, source.low * area, source.high * area))
    if source.kind != "spikes":
        raise LoweringError(f"{where}: sums {source.kind} over {node.axis}, accepted: spikes, or a stream over tokens")
    return _sums(where, channels // node.heads * (area if node.axis == "both" else 1), node.heads)


def _mix(where: str, node: ir.Mix, source: Range, time_steps: int) -> Range:
    if len(node.threshold) != time_steps:
        raise LoweringError(f"{where}: thresholds for {len(node.threshold)} steps, accepted: {time_steps}")
    widest = Range(source.kind, source.low.min(keepdims=True), source.high.max(keepdims=True))
    for row in node.weight.astype(np.int64):
        low = high = np.zeros(1, np.int64)
        for weight in row:
            least, most = within_int32(where, *ends(weight, widest))
            low, high = within_int32(where, low + least, high + most)
    ones: Array = np.ones(len(source.low), np.int64)
    return Range("spikes", 0 * ones, ones)
