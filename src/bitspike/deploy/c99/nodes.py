"""C functions of the nodes: neurons with the currents they read, pools, sums and the readout."""

from __future__ import annotations

import math

import numpy as np

from ...errors import LoweringError
from .. import ir
from . import tables
from .code import Source, unsigned
from .neurons import membrane_type, neurons_function
from .places import at_step, fill, here, pixels, slot_of, window
from .plan import Plan
from .rows import Adder, value
from .streams import stream_function

__all__ = ["node_function"]


def node_function(source: Source, plan: Plan, index: int, row_type: str) -> None:
    """Write ``node_<index>`` of a node that stores an edge, or of the Readout."""
    match plan.graph.nodes[index]:
        case ir.Lif() as node:
            neurons_function(source, plan, index, node, membrane_type(node) if plan.streaming else row_type)
            _lif(source, plan, index, node)
        case ir.OrPool() as node:
            _or_pool(source, plan, index, node)
        case ir.SumPool() as node:
            _sum_pool(source, plan, index, node)
        case ir.Add() as node:
            _add(source, plan, index, node)
        case ir.Readout() as node:
            _readout(source, plan, index, node)
        case _:
            stream_function(source, plan, index)


def _lif(source: Source, plan: Plan, index: int, node: ir.Lif) -> None:
    """Pixel by pixel and a chunk of steps at a time, so that only one pixel's currents exist."""
    code, (channels, height, width) = source.code, plan.shapes[index]
    edge, chunk = plan.edges[index], plan.chunk
    slots = [slot_of(plan, number, s, channels) for number, s in enumerate(node.sources)]
    for slot in slots:
        source.reserve_current(slot.number, slot.stride * (1 if slot.fixed else chunk), slot.ctype)
    reads_input = plan.reads_input(index)
    with code.function(f"static void node_{index}({'const uint8_t *sample' if reads_input else 'void'})"):
        code("uint32_t y, x, t, s, c;")
        code("(void)s;")
        code("(void)c;")
        with code.loop("y", height), code.loop("x", width):
            at = f"(y * {width}u + x)"
            membrane = f"membranes_{index} + {at} * {channels}u, " if plan.streaming else "membrane, "
            if plan.keeps_membranes and not plan.streaming:
                code(f"for (c = 0; c < {channels}u; c++) membrane[c] = 0;")
            for slot in slots:
                if slot.fixed:
                    fill(source, plan, slot.node, slot.name)
            with code.loop("t", plan.steps // chunk):
                if not all(slot.fixed for slot in slots):
                    with code.loop("s", chunk):
                        for slot in slots:
                            if not slot.fixed:
                                fill(source, plan, slot.node, f"({slot.name} + s * {slot.stride}u)")
                to = f"edge_{index} + t * {chunk * edge.step}u + {at} * {edge.pixel}u"
                currents = ", ".join(slot.name for slot in slots)
                code(f"neurons_{index}({currents}, {membrane if plan.keeps_membranes else ''}{to});")


def _or_pool(source: Source, plan: Plan, index: int, node: ir.OrPool) -> None:
    code, pixel = source.code, plan.edges[index].pixel
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t y, x, t, b, ky, kx, iy, ix;")
        with code.loop("t", plan.steps), pixels(source, plan, index):
            code(f"uint8_t *to = {here(plan, index)};")
            code(f"for (b = 0; b < {pixel}u; b++) to[b] = 0;")
            with window(source, plan, node.source, node.kernel, node.stride, node.padding):
                code(f"for (b = 0; b < {pixel}u; b++) to[b] = (uint8_t)(to[b] | from[b]);")


def _sum_pool(source: Source, plan: Plan, index: int, node: ir.SumPool) -> None:
    code, channels = source.code, plan.shapes[index][0]
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t y, x, t, c, ky, kx, iy, ix;")
        with code.loop("t", plan.steps), pixels(source, plan, index):
            code(f"uint8_t *to = {here(plan, index)};")
            code(f"for (c = 0; c < {channels}u; c++) to[c] = 0;")
            with window(source, plan, node.source, node.kernel, node.stride, 0):
                term = value(plan.kind(node.source), "from", "c")
                code(f"for (c = 0; c < {channels}u; c++) to[c] = (uint8_t)(to[c] + {term});")


def _add(source: Source, plan: Plan, index: int, node: ir.Add) -> None:
    code, channels = source.code, plan.shapes[index][0]
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t y, x, t, c;")
        with code.loop("t", plan.steps), pixels(source, plan, index):
            for name, s in (("left", node.left), ("right", node.right)):
                code(f"const uint8_t *{name} = {here(plan, s)};")
            code(f"uint8_t *to = {here(plan, index)};")
            left, right = value(plan.kind(node.left), "left", "c"), value(plan.kind(node.right), "right", "c")
            code(f"for (c = 0; c < {channels}u; c++) to[c] = (uint8_t)({left} + {right});")


def _readout(source: Source, plan: Plan, index: int, node: ir.Readout) -> None:
    """Features are summed over time before they are weighted: a Readout is linear."""
    code, edge = source.code, plan.edges[node.source]
    channels, height, width = plan.shapes[node.source]
    classes, area = node.weight.shape[0], height * width
    source.reserve_current(0, classes, "int32_t")
    if plan.kind(node.source) not in ("spikes", "counts"):
        source.call("values")
        _check_sums(plan, node)
    weight = node.weight if node.pool else _pixel_major(node.weight, channels, area)
    ctype, values = tables.stream(np.ascontiguousarray(weight.T), node.bits, node.odd)
    name = source.weight(f"weights_{index}", ctype, values)
    pixel = f"{at_step(plan, node.source)} + i * {edge.pixel}u"
    term = value(plan.kind(node.source), pixel, "c")
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t c, i, t, sum;")
        adder = Adder(source, name, node.bits, node.odd, "int32_t", classes)
        bias = unsigned(source.parameter(f"bias_{index}", node.bias, "c"))
        code(f"for (c = 0; c < {classes}u; c++) logits_of[c] = signed32({bias} * {plan.steps}u);")
        if node.pool:
            with code.block(f"for (c = 0; c < {channels}u; c++)"):
                code("sum = 0;")
                with code.loop("t", plan.steps), code.loop("i", area):
                    code(f"sum += {term};")
                adder.add("(int32_t)sum", f"c * {classes}u", "logits_of")
        else:
            with code.loop("i", area), code.block(f"for (c = 0; c < {channels}u; c++)"):
                code("sum = 0;")
                with code.loop("t", plan.steps):
                    code(f"sum += {term};")
                adder.add("(int32_t)sum", f"(i * {channels}u + c) * {classes}u", "logits_of")
        adder.finish("logits_of")


def _check_sums(plan: Plan, node: ir.Readout) -> None:
    """Features of a stream are summed in 32 bits before they meet weights, some of which may be zero."""
    bounds, area = plan.ranges[node.source], math.prod(plan.shapes[node.source][1:]) if node.pool else 1
    most = int(max(-bounds.low.min(), bounds.high.max())) * area * plan.graph.time_steps
    if most >= 2**31:
        raise LoweringError(f"features of the Readout sum up to {most}, accepted in C: below 2^31")


def _pixel_major(weight: ir.Weight, channels: int, area: int) -> ir.Weight:
    """(classes, C, pixels) -> (classes, pixels, C), flattened."""
    return weight.reshape(-1, channels, area).transpose(0, 2, 1).reshape(len(weight), -1)
