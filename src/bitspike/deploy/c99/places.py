"""Where a node's values stand, as C: pointers, loops over pixels and windows, and the arrays of currents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .code import Source
from .plan import Plan
from .rows import value

__all__ = ["Slot", "at_step", "fill", "here", "pixels", "pointer", "slot_of", "window"]


@dataclass(frozen=True)
class Slot:
    """A source of neurons or of a stream: which array of currents it uses, with ``stride`` numbers from step to step."""

    number: int
    node: int
    ctype: str
    stride: int
    fixed: bool

    @property
    def name(self) -> str:
        return f"currents_{self.number}.{'narrow' if self.ctype == 'int16_t' else 'wide'}"


def fill(source: Source, plan: Plan, index: int, target: str) -> None:
    """Write the statement that puts a node's source at this pixel and step into ``target``."""
    code, kind = source.code, plan.kind(index)
    if kind == "current":
        pointers = ", ".join(pointer(plan, s) for s in plan.behind(index))
        code(f"current_{index}({pointers}, y, x, {target});")
        return
    channels, height, width = plan.shapes[index]
    if kind == "input":
        zero = source.parameter(f"zero_{len(source.parameters)}_input", plan.graph.input.zero_point, "c")
        term = f"{pointer(plan, index)}[(c * {height}u + y) * {width}u + x] - {zero}"
    else:
        if kind not in ("spikes", "counts"):
            source.call("values")
        term = value(kind, f"({pointer(plan, index)} + (y * {width}u + x) * {plan.edges[index].pixel}u)", "c")
    code(f"for (c = 0; c < {channels}u; c++) {target}[c] = ({plan.current_type(index)})({term});")


def pointer(plan: Plan, index: int) -> str:
    """Where step t * chunk + s of an edge begins."""
    step = f"(t * {plan.chunk}u + s)"
    if index == 0:
        node = plan.graph.input
        frames = node.frames > 1 and not plan.streaming
        return f"sample + {step} * {node.channels * node.height * node.width}u" if frames else "sample"
    return f"edge_{index} + {step} * {plan.edges[index].step}u"


def at_step(plan: Plan, index: int) -> str:
    """Where step t of a stored edge begins."""
    return f"edge_{index} + t * {plan.edges[index].step}u"


@contextmanager
def pixels(source: Source, plan: Plan, index: int) -> Iterator[None]:
    """Loops over the pixels of a node's edge."""
    _, height, width = plan.shapes[index]
    code = source.code
    with code.block(f"for (y = 0; y < {height}u; y++)"), code.block(f"for (x = 0; x < {width}u; x++)"):
        yield


def here(plan: Plan, index: int) -> str:
    """Pixel (y, x) of an edge at step t."""
    return f"{at_step(plan, index)} + (y * {plan.shapes[index][2]}u + x) * {plan.edges[index].pixel}u"


@contextmanager
def window(source: Source, plan: Plan, index: int, kernel: int, stride: int, padding: int) -> Iterator[None]:
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
            code(f"from = {at_step(plan, index)} + (iy * {width}u + ix) * {plan.edges[index].pixel}u;")
            yield


def slot_of(plan: Plan, number: int, index: int, channels: int) -> Slot:
    """The array ``number`` for source ``index``."""
    return Slot(number, index, plan.current_type(index), channels + 8, plan.repeats(index))
