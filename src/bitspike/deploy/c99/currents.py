"""C functions that compute a current: all channels of one output pixel at one step, into an array of words.

Spikes and counts are turned into lists of input rows, and rows of weight bits are counted (see ``count`` in
helpers.py): the work follows the firing rate, and weights are read as they lie in flash. Bytes of the input, and groups
of few channels, are multiplied one weight at a time. Results fit their type because ``deploy.check`` proved it; where a
sum on the way might not, arithmetic is modulo 2^32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from .. import ir
from . import tables
from .code import Code, Source
from .plan import LIST_ENTRIES, Plan
from .rows import Adder, value
from .sums import stream_current
from .unpack import padded_planes, unpack_function

__all__ = ["current_function"]

FEW_CHANNELS = 4  # groups of so few output channels would waste most bits of a counted word


def current_function(source: Source, plan: Plan, index: int) -> None:
    """Write ``current_<index>`` for a node whose edge is a current."""
    node = plan.graph.nodes[index]
    if isinstance(node, ir.Attention):
        _attend(source, plan, index, node)
        return
    if not isinstance(node, ir.Conv | ir.Linear):
        stream_current(source, plan, index)
        return
    conv = _as_conv(node, plan.shapes[node.source])
    channels = plan.shapes[index][0]
    if plan.kind(conv.source) == "input" or channels // conv.groups <= FEW_CHANNELS:
        _multiply(source, plan, index, conv)
    else:
        _count(source, plan, index, conv)


def _as_conv(node: ir.Conv | ir.Linear, shape: tuple[int, int, int]) -> ir.Conv:
    """A Linear is a Conv whose kernel covers its source."""
    if isinstance(node, ir.Conv):
        return node
    return ir.Conv(node.source, node.weight.reshape(-1, *shape), node.bits, odd=node.odd)


def _rows(conv: ir.Conv) -> ir.Weight:
    """Weights (groups, M / groups, kh·kw·C / groups), inputs in the order in which taps and channels are visited."""
    m, per_group, kh, kw = conv.weight.shape
    taps = conv.weight.transpose(0, 2, 3, 1).reshape(conv.groups, m // conv.groups, kh * kw * per_group)
    return np.ascontiguousarray(taps)


def _count(source: Source, plan: Plan, index: int, conv: ir.Conv) -> None:
    code, rows = source.code, _rows(conv)
    groups, channels, inputs = rows.shape
    kind, pixel = plan.kind(conv.source), plan.edges[conv.source].pixel
    per_group = conv.weight.shape[1]
    highest = plan.ranges[conv.source].high
    value_bits = int(highest.max()).bit_length()
    stride = _plane_stride(rows, conv, highest, value_bits)
    parts = tables.plane_rows(rows, conv.bits, conv.odd)
    words = sum(count for _, _, count, _ in parts)
    capacity = min(inputs, LIST_ENTRIES + per_group)
    source.list_entries = max(source.list_entries, capacity + 8)
    source.largest_entry = max(source.largest_entry, inputs)
    source.plane_words = max(source.plane_words, words * stride)
    source.call("clear", "signed32", "scan_counts" if kind == "counts" else "scan" if groups == 1 else "scan_range")

    with code.function(f"static SEPARATE void count_{index}(uint32_t group, uint32_t bit, uint32_t n)"):
        code("uint32_t word, j;")
        if groups == 1:
            code("(void)group;")
        done = 0
        for ctype, first, count, values in parts:
            lanes = 8 * tables.WIDTHS[ctype]
            name = source.weight(f"rows_{index}_{first}", ctype, values)
            source.call(f"count{lanes}")
            with code.loop("word", count), code.loop("j", conv.bits):
                at = f"((group * {count}u + word) * {conv.bits}u + j) * {inputs + 1}u"
                to = f"({done}u + word) * {stride}u + bit + j"
                code(f"count{lanes}({name} + {at}, n, {inputs}u, planes + {to});")
            done += count

    to_type = plan.current_type(index)
    head = f"static SEPARATE void current_{index}(const uint8_t *in, uint32_t y, uint32_t x, {to_type} *current)"
    with code.function(head):
        code("uint32_t group, bit, ky, kx, iy, ix, n, total;")
        with code.loop("group", groups):
            code("total = 0;")
            code(f"clear(planes, {words * stride}u);")
            with code.loop("bit", value_bits):
                code("n = 0;")
                with _taps(code, conv, plan.shapes[conv.source]):
                    base = f"(ky * {conv.weight.shape[3]}u + kx) * {per_group}u"
                    at = f"in + (iy * {plan.shapes[conv.source][2]}u + ix) * {pixel}u"
                    if kind == "counts":
                        code(f"n = scan_counts({at} + group * {per_group}u, {per_group}u, bit, {base}, n);")
                    elif groups == 1:
                        code(f"n = scan({at}, {pixel}u, {base}, n);")
                    else:
                        code(f"n = scan_range({at}, group * {per_group}u, {per_group}u, {base}, n);")
                    if inputs > capacity:
                        with code.block(f"if (n > {capacity - per_group}u)"):
                            code(f"count_{index}(group, bit, n);")
                            code("total += n << bit;")
                            code("n = 0;")
                code(f"count_{index}(group, bit, n);")
                code("total += n << bit;")
            scale, offset = tables.offset_of(conv.bits, conv.odd)
            word = 0
            for ctype, first, count, _ in parts:
                for i in range(count):
                    name, text = unpack_function(8 * tables.WIDTHS[ctype], stride, scale, to_type)
                    source.unpackers[name] = text
                    to = f"current + group * {channels}u + {first + 32 * i}u"
                    code(f"{name}(planes + {(word + i) * stride}u, {offset}u * total, {to});")
                word += count


def _plane_stride(rows: ir.Weight, conv: ir.Conv, highest: NDArray[np.int64], value_bits: int) -> int:
    """Words per counter: bits of the largest sum of stored weights, and room for the adders."""
    scale, offset = tables.offset_of(conv.bits, conv.odd)
    stored = (rows.astype(np.int64) + offset) // scale  # (groups, M / groups, taps · C / groups)
    per_group = conv.weight.shape[1]
    taps = rows.shape[2] // per_group
    limits = np.tile(highest.reshape(conv.groups, 1, per_group), (1, 1, taps))
    largest = int((stored * limits).sum(-1).max())
    return padded_planes(max(largest.bit_length(), conv.bits - 1 + value_bits - 1 + 3))


def _multiply(source: Source, plan: Plan, index: int, conv: ir.Conv) -> None:
    code, rows = source.code, _rows(conv)
    groups, channels, inputs = rows.shape
    per_group = conv.weight.shape[1]
    _, height, width = plan.shapes[conv.source]
    ctype, values = tables.stream(rows.transpose(0, 2, 1), conv.bits, conv.odd)  # (groups, inputs, M / groups)
    name = source.weight(f"weights_{index}", ctype, values)
    to_type = plan.current_type(index)
    source.call("signed32")
    head = f"static SEPARATE void current_{index}(const uint8_t *in, uint32_t y, uint32_t x, {to_type} *current)"
    with code.function(head):
        code("uint32_t group, ky, kx, iy, ix, c;")
        adder = Adder(source, name, conv.bits, conv.odd, to_type, channels)
        code(f"for (c = 0; c < {groups * channels}u; c++) current[c] = 0;")
        with code.loop("group", groups):
            with _taps(code, conv, plan.shapes[conv.source]), code.block(f"for (c = 0; c < {per_group}u; c++)"):
                channel = "c" if groups == 1 else f"(group * {per_group}u + c)"
                if plan.kind(conv.source) == "input":
                    zero = source.parameter(f"zero_{index}", plan.graph.input.zero_point, channel)
                    found = f"(int32_t)in[({channel} * {height}u + iy) * {width}u + ix] - {zero}"
                else:
                    at = f"in + (iy * {width}u + ix) * {plan.edges[conv.source].pixel}u"
                    found = f"(int32_t){value(plan.kind(conv.source), at, channel)}"
                row = f"(group * {inputs}u + (ky * {conv.weight.shape[3]}u + kx) * {per_group}u + c) * {channels}u"
                adder.add(found, row, f"current + group * {channels}u")
            adder.finish(f"current + group * {channels}u")


def _attend(source: Source, plan: Plan, index: int, node: ir.Attention) -> None:
    """Query times key gives one number per token, by which that token's values are added: no matrix is stored."""
    code, (channels, height, width) = source.code, plan.shapes[node.value]
    query, key = plan.edges[node.query], plan.edges[node.key]
    depth, out = query.shape[0] // node.heads, channels // node.heads
    to_type = plan.current_type(index)
    source.list_entries = max(source.list_entries, channels + 1)
    source.largest_entry = max(source.largest_entry, channels - 1)
    aligned = out % 8 == 0 or node.heads == 1
    source.call("overlap", "scan" if aligned else "scan_range")
    head = f"static SEPARATE void current_{index}(const uint8_t *query, const uint8_t *key, const uint8_t *value, "
    with code.function(head + f"uint32_t y, uint32_t x, {to_type} *current)"):
        code("uint32_t head, token, i, n, v;")
        code(f"query += (y * {plan.shapes[node.query][2]}u + x) * {query.pixel}u;")
        code(f"for (i = 0; i < {channels}u; i++) current[i] = 0;")
        with code.block(f"for (token = 0; token < {height * width}u; token++)"):
            with code.loop("head", node.heads):
                code(f"v = overlap(query, key, head * {depth}u, {depth}u);")
                code("n = 0;")
                if aligned:
                    size = (out + 7) // 8
                    code(f"if (v) n = scan(value + head * {size}u, {size}u, head * {out}u, 0);")
                else:
                    code(f"if (v) n = scan_range(value, head * {out}u, {out}u, head * {out}u, 0);")
                code(f"for (i = 0; i < n; i++) current[list[i]] = ({to_type})(current[list[i]] + (int32_t)v);")
            code(f"key += {key.pixel}u;")
            code(f"value += {plan.edges[node.value].pixel}u;")


@contextmanager
def _taps(code: Code, conv: ir.Conv, shape: tuple[int, int, int]) -> Iterator[None]:
    """Loops over the kernel taps that lie inside the source; sets ky, kx, iy, ix."""
    _, height, width = shape
    kh, kw = conv.weight.shape[2:]
    with code.block(f"for (ky = 0; ky < {kh}u; ky++)"):
        code(f"iy = y * {conv.stride}u + ky - {conv.padding}u;")
        if conv.padding:
            code(f"if (iy >= {height}u) continue;")
        with code.block(f"for (kx = 0; kx < {kw}u; kx++)"):
            code(f"ix = x * {conv.stride}u + kx - {conv.padding}u;")
            if conv.padding:
                code(f"if (ix >= {width}u) continue;")
            yield
