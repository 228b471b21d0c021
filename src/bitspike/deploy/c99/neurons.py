"""C function of a layer's neurons: all channels of one pixel over a chunk of steps; see ``ir.Lif`` for the arithmetic.

Each channel's membrane stays in registers over the chunk. Between chunks, or calls, it is kept as the number of
``membrane_bits`` bits that it is a multiple of. Sums are modulo 2^32, which is exact: every result is proven to fit.
"""

from __future__ import annotations

import numpy as np

from .. import ir
from ..check import Range
from .code import Source, signed, unsigned
from .plan import Plan

__all__ = ["membrane_type", "neurons_function"]


def membrane_type(node: ir.Lif) -> str:
    """What holds a kept membrane."""
    return "int8_t" if node.membrane_bits <= 8 else "int16_t"


def neurons_function(source: Source, plan: Plan, index: int, node: ir.Lif, kept_type: str) -> None:
    """Write ``neurons_<index>``."""
    code, channels, chunk = source.code, plan.shapes[index][0], plan.chunk
    source.call("signed32", "shift_right")
    inputs = [f"const {plan.current_type(s)} *{'ab'[i]}" for i, s in enumerate(node.sources)]
    kept = [f"{kept_type} *membrane"] if plan.keeps_membranes else []
    head = ", ".join((*inputs, *kept, "uint8_t *spikes"))
    with code.function(f"static SEPARATE void neurons_{index}({head})"):
        code("uint32_t c = 0, i;")
        with code.block(f"while (c < {channels}u)"):
            code(f"uint32_t {', '.join(f'bits_{s} = 0' for s in range(chunk))};")
            inside = "i < 8u" if channels % 8 == 0 else f"i < 8u && c < {channels}u"
            advance = "".join(f", {'ab'[i]}++" for i in range(len(inputs)))
            with code.block(f"for (i = 0; {inside}; i++, c++{advance})"):
                _channel(source, plan, index, node, kept_type)
            for s in range(chunk):
                bits = f"bits_{s}" if channels % 8 == 0 else f"(bits_{s} >> (8u - i))"
                code(f"spikes[{s * plan.edges[index].step}] = (uint8_t){bits};")
            code("spikes++;")


def _channel(source: Source, plan: Plan, index: int, node: ir.Lif, kept_type: str) -> None:
    """The steps of one channel; a byte of spikes fills from its top bit down."""
    code, chunk = source.code, plan.chunk
    threshold = _local(source, "threshold", index, node.threshold)
    bias = unsigned(_local(source, "bias", index, node.bias))
    factors = [unsigned(_local(source, f"multiplier_{i}", index, m)) for i, m in enumerate(node.multiplier)]
    carries = chunk > 1 or plan.keeps_membranes
    shift = _local(source, "shift", index, node.membrane_shift) if carries else "0"
    if shift.isdigit():
        down, half, unit = f"{shift}u", str((1 << int(shift)) >> 1), str(1 << int(shift))
    else:
        down, half, unit = "(uint32_t)shift", "(int32_t)(1u << shift >> 1)", ""

    def shifted_up(value: str) -> str:
        return f"{value} * {unit}" if unit else f"signed32((uint32_t){value} << shift)"

    code(f"int32_t u, carry = {shifted_up('membrane[c]') if plan.keeps_membranes else '0'};")
    for s in range(chunk):
        terms = []
        for i, (factor, node_read) in enumerate(zip(factors, node.sources, strict=True)):
            stride = 0 if plan.repeats(node_read) else s * (plan.shapes[index][0] + 8)
            term = f"(uint32_t){'ab'[i]}[{stride}]"
            terms.append(term if factor == "1u" else f"{factor} * {term}")
        leaked = f"(carry - shift_right(carry, {node.leak_shift}u))" if node.leak_shift else "carry"
        code(f"u = signed32((uint32_t){leaked} + {' + '.join(terms)} + {bias});")
        code(f"bits_{s} >>= 1;")
        last = s == chunk - 1
        if last and not plan.keeps_membranes:
            code(f"if (u >= {threshold}) bits_{s} |= 0x80u;")
            continue
        with code.block(f"if (u >= {threshold})"):
            code(f"bits_{s} |= 0x80u;")
            code(f"u -= {threshold};" if node.soft_reset else "u = 0;")
        stored = _clipped(source, node, plan.ranges[index], f"shift_right(u + {half}, {down})")
        code(f"membrane[c] = ({kept_type}){stored};" if last else f"carry = {shifted_up(stored)};")


def _local(source: Source, what: str, index: int, values: np.ndarray) -> str:
    """A literal, or the name of a constant read once per channel."""
    expression = source.parameter(f"{what}_{index}", values, "c")
    if "[" not in expression:
        return expression
    source.code(f"const int32_t {what} = {expression};")
    return what


def _clipped(source: Source, node: ir.Lif, bounds: Range, value: str) -> str:
    """``value`` limited to the membrane's bits on those sides on which it could lie outside for some channel."""
    assert bounds.potential_low is not None and bounds.potential_high is not None
    limit = 2 ** (node.membrane_bits - 1) - 1
    threshold, shift = node.threshold.astype(np.int64), node.membrane_shift.astype(np.int64)
    half = (np.int64(1) << shift) >> 1
    unfired = np.minimum(bounds.potential_high, threshold - 1)
    most = np.maximum(unfired, bounds.potential_high - threshold if node.soft_reset else 0)
    least = np.minimum(bounds.potential_low, 0)
    if node.soft_reset:  # a negative threshold that is reached raises the potential
        most = np.maximum(most, bounds.potential_high)
        most = np.maximum(most, bounds.potential_high - threshold)
        least = np.minimum(least, bounds.potential_low - threshold)
    above = bool(((most + half) >> shift > limit).any())
    below = bool(((least + half) >> shift < -limit).any())
    if above and below:
        source.call("clip")
        return f"clip({value}, {limit})"
    if above:
        source.call("at_most")
        return f"at_most({value}, {limit})"
    if below:
        source.call("at_least")
        return f"at_least({value}, {signed(-limit)})"
    return value
