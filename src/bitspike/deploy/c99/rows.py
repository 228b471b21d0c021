"""C statements that read one value of an edge, and that add weight rows times values."""

from __future__ import annotations

from . import tables
from .code import Source

__all__ = ["Adder", "value"]


def value(kind: str, pixel: str, channel: str) -> str:
    """C expression for a spike, count or, modulo 2^32, value of a stream, of one pixel."""
    if kind == "counts":
        return f"(uint32_t)({pixel})[{channel}]"
    if kind in ("stream16", "stream32"):
        return f"(uint32_t)value{kind[-2:]}({pixel}, {channel})"
    return f"((uint32_t)({pixel})[{channel} >> 3] >> ({channel} & 7u) & 1u)"


class Adder:
    """C that adds weight rows times values to an array: three rows of bytes per call, or one row of a stream."""

    def __init__(self, source: Source, weights: str, bits: int, odd: bool, ctype: str, columns: int) -> None:
        self.source, self.weights, self.bits, self.columns = source, weights, bits, columns
        self.odd = odd or bits == 1
        self.threes = tables.whole_bytes(bits, odd)
        width = 8 * tables.WIDTHS[ctype]
        self.function = f"add_rows8_{width}" if self.threes else f"add_row_{width}"
        source.call(self.function)
        source.code("int32_t v[3];" if self.threes else "int32_t v;")
        if self.threes:
            source.code("const int8_t *row[3];")
            source.code("uint32_t n = 0;")

    def add(self, found: str, row: str, to: str) -> None:
        """``found`` times the row of weights that begins at number ``row``; zeros are passed over."""
        code = self.source.code
        if not self.threes:
            code(f"v = {found};")
            stream = f"{self.weights}, {self.bits}u, {int(self.odd)}u"
            code(f"if (v) {self.function}({stream}, {row}, v, {self.columns}u, {to});")
            return
        code(f"v[n] = {found};")
        code(f"row[n] = {self.weights} + {row};")
        code("n += v[n] != 0;")
        with code.block("if (n == 3)"):
            code(f"{self.function}(row, v, {self.columns}u, {to});")
            code("n = 0;")

    def finish(self, to: str) -> None:
        """Add what has been collected."""
        code = self.source.code
        if not self.threes:
            return
        with code.block("if (n)"):
            with code.block("for (; n < 3; n++)"):
                code("v[n] = 0;")
                code(f"row[n] = {self.weights};")
            code(f"{self.function}(row, v, {self.columns}u, {to});")
            code("n = 0;")
