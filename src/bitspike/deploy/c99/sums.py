"""C functions of currents that are sums and products of edges without weights; see :mod:`bitspike.deploy.ir_stream`."""

from __future__ import annotations

import numpy as np

from .. import ir
from .code import Source
from .plan import Plan
from .rows import value
from .tables import WIDTHS

__all__ = ["stream_current"]


def stream_current(source: Source, plan: Plan, index: int) -> None:
    """Write ``current_<index>`` of a sum or product."""
    match plan.graph.nodes[index]:
        case ir.Reduce() as node:
            _reduce(source, plan, index, node)
        case ir.SumPool() as node:
            _sum_pool(source, plan, index, node)
        case ir.MatMul() as node:
            _multiply(source, plan, index, node)
        case ir.Product() as node:
            _product(source, plan, index, node)


def _current_head(plan: Plan, index: int, *names: str) -> str:
    inputs = ", ".join(f"const uint8_t *{name}" for name in names)
    return (
        f"static SEPARATE void current_{index}({inputs}, uint32_t y, uint32_t x, {plan.current_type(index)} *current)"
    )


def _cleared(source: Source, plan: Plan, index: int) -> None:
    source.code(f"for (c = 0; c < {plan.shapes[index][0]}u; c++) current[c] = 0;")


def _added(plan: Plan, index: int, to: str, term: str) -> str:
    """``current[to] += term``, a number modulo 2^32 whose sum is proven to fit."""
    return f"current[{to}] = ({plan.current_type(index)})signed32((uint32_t)current[{to}] + {term});"


def _reduce(source: Source, plan: Plan, index: int, node: ir.Reduce) -> None:
    code, (channels, height, width) = source.code, plan.shapes[node.source]
    kind, pixel = plan.kind(node.source), plan.edges[node.source].pixel
    group = 1 if node.axis == "tokens" else channels // node.heads
    source.call("signed32", *(["values"] if kind != "spikes" else []))
    with code.function(_current_head(plan, index, "in")):
        code("uint32_t c, i;")
        _cleared(source, plan, index)
        if node.axis == "channels":
            code(f"in += (y * {width}u + x) * {pixel}u;")
        else:
            code("(void)y;")
            code("(void)x;")
        with code.loop("i", 1 if node.axis == "channels" else height * width):
            term = value(kind, f"(in + i * {pixel}u)", "c")
            with code.block(f"for (c = 0; c < {channels}u; c++)"):
                code(_added(plan, index, f"c / {group}u", term))


def _sum_pool(source: Source, plan: Plan, index: int, node: ir.SumPool) -> None:
    """Of a stream."""
    code, (channels, _, width) = source.code, plan.shapes[node.source]
    source.call("signed32", "values")
    with code.function(_current_head(plan, index, "in")):
        code("uint32_t c, i, j;")
        _cleared(source, plan, index)
        with code.loop("i", node.kernel), code.loop("j", node.kernel):
            at = f"(in + ((y * {node.stride}u + i) * {width}u + x * {node.stride}u + j) * {plan.edges[node.source].pixel}u)"
            with code.block(f"for (c = 0; c < {channels}u; c++)"):
                code(_added(plan, index, "c", value(plan.kind(node.source), at, "c")))


def _multiply(source: Source, plan: Plan, index: int, node: ir.MatMul) -> None:
    code = source.code
    (left_channels, *left_size), (right_channels, _, right_width) = (plan.shapes[s] for s in (node.left, node.right))
    left_pixel, right_pixel = (plan.edges[s].pixel for s in (node.left, node.right))
    rows, tokens = left_channels // node.heads, int(np.prod(left_size))
    inner = right_channels // node.heads
    source.call("signed32")
    with code.function(_current_head(plan, index, "left", "right")):
        if node.transpose == "left":
            source.call("overlap")
            code("uint32_t head, i;")
            code(f"right += (y * {right_width}u + x) * {right_pixel}u;")
            with code.loop("head", node.heads), code.loop("i", tokens):
                found = f"overlap(left + i * {left_pixel}u, right, head * {rows}u, {rows}u)"
                code(f"current[head * {tokens}u + i] = ({plan.current_type(index)}){found};")
            return
        code("uint32_t head, i, c;")
        _cleared(source, plan, index)
        at = "right"
        if node.transpose == "right":  # row y of the right matrix, one token after the other
            code("(void)x;")
            at, bit = f"(right + i * {right_pixel}u)", f"(head * {inner}u + y)"
        else:  # the column of this pixel, one row after the other
            code(f"right += (y * {right_width}u + x) * {right_pixel}u;")
            bit = f"(head * {inner}u + i)"
        fires = code.block(f"if ({value('spikes', at, bit)})")
        every = code.block(f"for (c = head * {rows}u; c < (head + 1) * {rows}u; c++)")
        with code.loop("i", tokens), code.loop("head", node.heads), fires, every:
            code(_added(plan, index, "c", value("spikes", f"(left + i * {left_pixel}u)", "c")))


def _product(source: Source, plan: Plan, index: int, node: ir.Product) -> None:
    """Both factors stand in arrays of the function's own."""
    code, channels = source.code, plan.shapes[index][0]
    source.call("signed32", *(["values"] if any("stream" in plan.kind(s) for s in (node.left, node.right)) else []))
    behind = [f"in_{i}" for i in range(sum(len(plan.behind(s)) for s in (node.left, node.right)))]
    with code.function(_current_head(plan, index, *behind)):
        code("uint32_t c;")
        done = 0
        for name, s, place in (("left", node.left, "y, x"), ("right", node.right, "0, 0")):
            ctype = plan.current_type(s)
            source.function_bytes += channels * WIDTHS[ctype]
            code(f"static {ctype} {name}[{channels}];")
            inputs = behind[done : done + len(plan.behind(s))]
            done += len(inputs)
            if plan.kind(s) == "current":
                code(f"current_{s}({', '.join(inputs)}, {place}, {name});")
                continue
            at = (
                f"({inputs[0]} + (y * {plan.shapes[s][2]}u + x) * {plan.edges[s].pixel}u)"
                if name == "left"
                else inputs[0]
            )
            code(f"for (c = 0; c < {channels}u; c++) {name}[c] = ({ctype}){value(plan.kind(s), at, 'c')};")
        result = "signed32((uint32_t)left[c] * (uint32_t)right[c])"
        code(f"for (c = 0; c < {channels}u; c++) current[c] = ({plan.current_type(index)}){result};")
