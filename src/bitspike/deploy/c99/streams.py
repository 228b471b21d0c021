"""C functions of streams, masks, concatenations and mixing neurons; see :mod:`bitspike.deploy.ir_stream`."""

from __future__ import annotations

from .. import ir
from .code import Source, unsigned
from .places import at_step, fill, here, pixels, pointer, slot_of, window
from .plan import VALUE_BYTES, Plan
from .rows import value

__all__ = ["stream_function"]


def stream_function(source: Source, plan: Plan, index: int) -> None:
    """Write ``node_<index>`` of a stream, mask, concatenation or mixing neuron."""
    match plan.graph.nodes[index]:
        case ir.Stream() as node:
            _stream(source, plan, index, node)
        case ir.MaxPool() as node:
            _max_pool(source, plan, index, node)
        case ir.Gate() as node:
            _gate(source, plan, index, node)
        case ir.Concat() as node:
            _concat(source, plan, index, node)
        case ir.Mix() as node:
            _mix(source, plan, index, node)


def _put(source: Source, plan: Plan, index: int, channel: str, term: str) -> None:
    """Store ``term`` as value ``channel`` of the stream's pixel ``to``."""
    size = VALUE_BYTES[plan.kind(index)]
    source.call("put_value")
    source.code(f"put_value(to + {size}u * ({channel}), {size}u, {term});")


def _stream(source: Source, plan: Plan, index: int, node: ir.Stream) -> None:
    code, (channels, height, width) = source.code, plan.shapes[index]
    slots = [slot_of(plan, number, s, channels) for number, s in enumerate(node.sources)]
    for slot in slots:
        source.reserve_current(slot.number, slot.stride, slot.ctype)
    source.call("signed32", "shift_right", "clip")
    with code.function(f"static void node_{index}({'const uint8_t *sample' if plan.reads_input(index) else 'void'})"):
        code("uint32_t y, x, t, s, c;")
        code("(void)s;")
        with code.loop("y", height), code.loop("x", width):
            for slot in slots:
                if slot.fixed:
                    fill(source, plan, slot.node, slot.name)
            with code.loop("t", plan.steps // plan.chunk), code.loop("s", plan.chunk):
                code(f"uint8_t *to = {pointer(plan, index)} + (y * {width}u + x) * {plan.edges[index].pixel}u;")
                for slot in slots:
                    if not slot.fixed:
                        fill(source, plan, slot.node, slot.name)
                with code.block(f"for (c = 0; c < {channels}u; c++)"):
                    step = f"(t * {plan.chunk}u + s) * {channels}u + c" if node.multiplier.shape[1] > 1 else "c"
                    terms = [unsigned(source.parameter(f"bias_{index}", node.bias, "c"))]
                    for slot, multiplier in zip(slots, node.multiplier, strict=True):
                        factor = unsigned(source.parameter(f"multiplier_{index}_{slot.number}", multiplier, step))
                        terms.append(f"{factor} * (uint32_t){slot.name}[c]")
                    shift = unsigned(source.parameter(f"shift_{index}", node.shift, "c"))
                    code(f"uint32_t sum = {' + '.join(terms)};")
                    code(f"int32_t rounded = shift_right(signed32(sum + (1u << {shift} >> 1)), {shift});")
                    _put(source, plan, index, "c", f"clip(rounded, {2 ** (node.bits - 1) - 1})")


def _max_pool(source: Source, plan: Plan, index: int, node: ir.MaxPool) -> None:
    code, channels = source.code, plan.shapes[index][0]
    source.call("signed32", "values")
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t y, x, t, c, ky, kx, iy, ix, seen;")
        with code.loop("t", plan.steps), pixels(source, plan, index):
            code(f"uint8_t *to = {here(plan, index)};")
            code("seen = 0;")
            with window(source, plan, node.source, node.kernel, node.stride, node.padding):
                with code.block(f"for (c = 0; c < {channels}u; c++)"):
                    reads = [(node.source, "from"), (index, "to")]
                    found, best = (f"signed32({value(plan.kind(i), at, 'c')})" for i, at in reads)
                    code(f"int32_t found = {found};")
                    with code.block(f"if (!seen || found > {best})"):
                        _put(source, plan, index, "c", "found")
                code("seen = 1;")


def _gate(source: Source, plan: Plan, index: int, node: ir.Gate) -> None:
    code, channels, pixel = source.code, plan.shapes[index][0], plan.edges[index].pixel
    masks, height, width = plan.shapes[node.gate]
    at = here(plan, node.gate) if (height, width) == plan.shapes[index][1:] else at_step(plan, node.gate)
    with code.function(f"static void node_{index}(void)"):
        code("uint32_t y, x, t, b, c;")
        with code.loop("t", plan.steps), pixels(source, plan, index):
            code(f"const uint8_t *from = {here(plan, node.source)}, *mask = {at};")
            code(f"uint8_t *to = {here(plan, index)};")
            code(f"for (b = 0; b < {pixel}u; b++) to[b] = 0;")
            with code.block(f"for (c = 0; c < {channels}u; c++)"):
                code(f"uint32_t m = c / {channels // masks}u;")
                bit = f"{value('spikes', 'from', 'c')} & {value('spikes', 'mask', 'm')}"
                code(f"to[c >> 3] = (uint8_t)(to[c >> 3] | ({bit}) << (c & 7u));")


def _concat(source: Source, plan: Plan, index: int, node: ir.Concat) -> None:
    code, pixel = source.code, plan.edges[index].pixel
    spikes = plan.kind(index) == "spikes"
    if not spikes:
        source.call("signed32", "values")
    with code.function(f"static void node_{index}(void)"):
        code(f"uint32_t y, x, t, {'b, ' if spikes else ''}c;")
        with code.loop("t", plan.steps), pixels(source, plan, index):
            code(f"uint8_t *to = {here(plan, index)};")
            if spikes:
                code(f"for (b = 0; b < {pixel}u; b++) to[b] = 0;")
            first = 0
            for s in node.sources:
                channels = plan.shapes[s][0]
                with code.block(f"for (c = 0; c < {channels}u; c++)"):
                    code(f"const uint8_t *from = {here(plan, s)};")
                    found = value(plan.kind(s), "from", "c")
                    if spikes:
                        code(f"uint32_t at = c + {first}u;")
                        code(f"to[at >> 3] = (uint8_t)(to[at >> 3] | {found} << (at & 7u));")
                    else:
                        _put(source, plan, index, f"c + {first}u", f"signed32({found})")
                first += channels


def _mix(source: Source, plan: Plan, index: int, node: ir.Mix) -> None:
    """All steps of a pixel's currents first, then its spikes."""
    code, (channels, height, width) = source.code, plan.shapes[index]
    slot, edge = slot_of(plan, 0, node.source, channels), plan.edges[index]
    source.reserve_current(0, slot.stride * plan.steps, slot.ctype)
    source.call("signed32")
    with code.function(f"static void node_{index}({'const uint8_t *sample' if plan.reads_input(index) else 'void'})"):
        code("uint32_t y, x, t, s, c, sum;")
        with code.loop("y", height), code.loop("x", width):
            with code.loop("t", plan.steps // plan.chunk), code.loop("s", plan.chunk):
                fill(source, plan, node.source, f"({slot.name} + (t * {plan.chunk}u + s) * {slot.stride}u)")
            with code.loop("t", plan.steps):
                code(f"uint8_t *to = {at_step(plan, index)} + (y * {width}u + x) * {edge.pixel}u;")
                code(f"for (c = 0; c < {edge.pixel}u; c++) to[c] = 0;")
                with code.block(f"for (c = 0; c < {channels}u; c++)"):
                    weight = unsigned(source.parameter(f"mix_{index}", node.weight, f"t * {plan.steps}u + s"))
                    code("sum = 0;")
                    code(f"for (s = 0; s <= t; s++) sum += {weight} * (uint32_t){slot.name}[s * {slot.stride}u + c];")
                    threshold = source.parameter(f"threshold_{index}", node.threshold, "t")
                    code(f"if (signed32(sum) >= {threshold}) to[c >> 3] = (uint8_t)(to[c >> 3] | 1u << (c & 7u));")
