"""C functions of the nodes: neurons with the currents they read, pools, sums and the readout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from .. import ir
from . import tables
from .code import Source, unsigned
from .neurons import membrane_type, neurons_function
from .plan import Plan
from .rows import Adder, value

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


def _lif(source: Source, plan: Plan, index: int, node: ir.Lif) -> None:
    """Pixel by pixel and a chunk of steps at a time, so that only one pixel's currents exist."""
    code, (channels, height, width) = source.code, plan.shapes[index]
    edge, chunk = plan.edges[index], plan.chunk
    slots = [_Slot(slot, s, plan.current_type(s), channels + 8, plan.repeats(s)) for slot, s in enumerate(node.sources)]
    for slot in slots:
        source.reserve_current(slot.number, slot.stride * (1 if slot.fixed else chunk), slot.ctype)
    reads_input = any(ir.sources(plan.graph.nodes[s]) == (0,) for s in node.sources)
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
                    _fill(source, plan, slot.node, slot.name)
            with code.loop("t", plan.steps // chunk):
                if not all(slot.fixed for slot in slots):
                    with code.loop("s", chunk):
                        for slot in slots:
                            if not slot.fixed:
                                _fill(source, plan, slot.node, f"({slot.name} + s * {slot.stride}u)")
                to = f"edge_{index} + t * {chunk * edge.step}u + {at} * {edge.pixel}u"
                currents = ", ".join(slot.name for slot in slots)
                code(f"neurons_{index}({currents}, {membrane if plan.keeps_membranes else ''}{to});")


@dataclass(frozen=True)
class _Slot:
    """A source of a Lif: which array of currents it uses, with ``stride`` numbers from step to step."""

    number: int
    node: int
    ctype: str
    stride: int
    fixed: bool

    @property
    def name(self) -> str:
        return f"currents_{self.number}.{'narrow' if self.ctype == 'int16_t' else 'wide'}"


def _fill(source: Source, plan: Plan, index: int, target: str) -> None:
    """Write the statement that puts a Lif's source at this pixel and step into ``target``."""
    code = source.code
    if plan.kind(index) == "current":
        pointers = ", ".join(_pointer(plan, s) for s in ir.sources(plan.graph.nodes[index]))
        code(f"current_{index}({pointers}, y, x, {target});")
        return
    channels, _, width = plan.shapes[index]
    pixel = f"{_pointer(plan, index)} + (y * {width}u + x) * {plan.edges[index].pixel}u"
    term = value(plan.kind(index), pixel, "c")
    code(f"for (c = 0; c < {channels}u; c++) {target}[c] = (int16_t){term};")


def _pointer(plan: Plan, index: int) -> str:
    """Where step t * chunk + s of an edge begins."""
    step = f"(t * {plan.chunk}u + s)"
    if index == 0:
        node = plan.graph.input
        frames = node.frames > 1 and not plan.streaming
        return f"sample + {step} * {node.channels * node.height * node.width}u" if frames else "sample"
    return f"edge_{index} + {step} * {plan.edges[index].step}u"


def _at_step(plan: Plan, index: int) -> str:
    """Where step t of a stored edge begins."""
    return f"edge_{index} + t * {plan.edges[index].step}u"


def _or_pool(source: Source, plan: Plan, index: int, node: ir.OrPool) -> None:
    code, pixel = source.code, plan.edges[index].pixel
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t y, x, t, b, ky, kx, iy, ix;")
        with code.loop("t", plan.steps), _pixels(source, plan, index):
            code(f"uint8_t *to = {_here(plan, index)};")
            code(f"for (b = 0; b < {pixel}u; b++) to[b] = 0;")
            with _window(source, plan, node.source, node.kernel, node.stride, node.padding):
                code(f"for (b = 0; b < {pixel}u; b++) to[b] = (uint8_t)(to[b] | from[b]);")


def _sum_pool(source: Source, plan: Plan, index: int, node: ir.SumPool) -> None:
    code, channels = source.code, plan.shapes[index][0]
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t y, x, t, c, ky, kx, iy, ix;")
        with code.loop("t", plan.steps), _pixels(source, plan, index):
            code(f"uint8_t *to = {_here(plan, index)};")
            code(f"for (c = 0; c < {channels}u; c++) to[c] = 0;")
            with _window(source, plan, node.source, node.kernel, node.stride, 0):
                term = value(plan.kind(node.source), "from", "c")
                code(f"for (c = 0; c < {channels}u; c++) to[c] = (uint8_t)(to[c] + {term});")


def _add(source: Source, plan: Plan, index: int, node: ir.Add) -> None:
    code, channels = source.code, plan.shapes[index][0]
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t y, x, t, c;")
        with code.loop("t", plan.steps), _pixels(source, plan, index):
            for name, s in (("left", node.left), ("right", node.right)):
                code(f"const uint8_t *{name} = {_here(plan, s)};")
            code(f"uint8_t *to = {_here(plan, index)};")
            left, right = value(plan.kind(node.left), "left", "c"), value(plan.kind(node.right), "right", "c")
            code(f"for (c = 0; c < {channels}u; c++) to[c] = (uint8_t)({left} + {right});")


def _readout(source: Source, plan: Plan, index: int, node: ir.Readout) -> None:
    """Features are summed over time before they are weighted: a Readout is linear."""
    code, edge = source.code, plan.edges[node.source]
    channels, height, width = plan.shapes[node.source]
    classes, area = node.weight.shape[0], height * width
    source.reserve_current(0, classes, "int32_t")
    weight = node.weight if node.pool else _pixel_major(node.weight, channels, area)
    ctype, values = tables.stream(np.ascontiguousarray(weight.T), node.bits, node.odd)
    name = source.weight(f"weights_{index}", ctype, values)
    pixel = f"{_at_step(plan, node.source)} + i * {edge.pixel}u"
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


def _pixel_major(weight: ir.Weight, channels: int, area: int) -> ir.Weight:
    """(classes, C, pixels) -> (classes, pixels, C), flattened."""
    return weight.reshape(-1, channels, area).transpose(0, 2, 1).reshape(len(weight), -1)


@contextmanager
def _pixels(source: Source, plan: Plan, index: int) -> Iterator[None]:
    """Loops over the pixels of a node's edge."""
    _, height, width = plan.shapes[index]
    code = source.code
    with code.block(f"for (y = 0; y < {height}u; y++)"), code.block(f"for (x = 0; x < {width}u; x++)"):
        yield


def _here(plan: Plan, index: int) -> str:
    """Pixel (y, x) of an edge at step t."""
    return f"{_at_step(plan, index)} + (y * {plan.shapes[index][2]}u + x) * {plan.edges[index].pixel}u"


@contextmanager
def _window(source: Source, plan: Plan, index: int, kernel: int, stride: int, padding: int) -> Iterator[None]:
    """Loops over the pixels of a pooling window; sets ``from``."""
    code, (_, height, width) = source.code, plan.shapes[index]
    with code.block(f"for (ky = 0; ky < {kernel}u; ky++)"):
        code(f"iy = y * {stride}u + ky - {padding}u;")
        if padding:
            code(f"if (iy >= {height}u) continue;")
        with code.block(f"for (kx = 0; kx < {kernel}u; kx++)"):
            code("const uint8_t *from;")
            code(f"ix = x * {stride}u + kx - {padding}u;")
            if padding:
                code(f"if (ix >= {width}u) continue;")
            code(f"from = {_at_step(plan, index)} + (iy * {width}u + ix) * {plan.edges[index].pixel}u;")
            yield
