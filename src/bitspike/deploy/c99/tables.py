"""Constant tables of the emitted C: packed weights and per-channel parameters, each in its narrowest type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir import Weight

__all__ = ["Table", "narrowest", "offset_of", "plane_rows", "split_lanes", "stream", "whole_bytes"]

WIDTHS = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4}


@dataclass(frozen=True)
class Table:
    """``static const ctype name[values.size]``."""

    name: str
    ctype: str
    values: NDArray[np.int64]

    @property
    def bytes(self) -> int:
        """Size in flash."""
        return int(self.values.size) * WIDTHS[self.ctype]

    def text(self) -> str:
        """The C definition, at most 120 columns wide."""
        unsigned = self.ctype.startswith("u")
        digits = 2 * WIDTHS[self.ctype]
        cells = [f"0x{v:0{digits}x}" if unsigned else _signed(v) for v in self.values.reshape(-1).tolist()]
        if self.ctype == "uint32_t":
            cells = [f"{cell}u" for cell in cells]
        lines, line = [], " "
        for cell in cells:
            if len(line) + len(cell) + 2 > 118:
                lines.append(line)
                line = " "
            line += f" {cell},"
        lines.append(line)
        body = "\n".join(lines)
        return f"static const {self.ctype} {self.name}[{self.values.size}] = {{\n{body}\n}};\n"


def narrowest(values: Sequence[int] | NDArray[np.integer]) -> str:
    """The narrowest signed type that holds all ``values``."""
    array = np.asarray(values, np.int64)
    for ctype, bits in (("int8_t", 8), ("int16_t", 16)):
        if array.min() >= -(1 << (bits - 1)) and array.max() < 1 << (bits - 1):
            return ctype
    return "int32_t"


def offset_of(bits: int, odd: bool) -> tuple[int, int]:
    """(scale, offset) such that weight = scale * stored - offset with stored >= 0 of ``bits`` bits."""
    return (2, 2**bits - 1) if odd or bits == 1 else (1, 2 ** (bits - 1) - 1)


def split_lanes(channels: int) -> list[tuple[str, int, int]]:
    """Words that hold one bit per channel: (type, first channel, number of words), fewer than 8 bits unused."""
    words, rest = divmod(channels, 32)
    parts = [("uint32_t", 0, words)] if words else []
    first = 32 * words
    if rest > 24:
        parts = [("uint32_t", 0, words + 1)]
    elif rest:
        if rest > 8:
            parts.append(("uint16_t", first, 1))
            first, rest = first + 16, rest - 16
        if rest > 0:
            parts.append(("uint8_t", first, 1))
    return parts


def plane_rows(weight: Weight, bits: int, odd: bool) -> list[tuple[str, int, int, NDArray[np.int64]]]:
    """Weights (G, M, K) as bit rows: one word per input row k holds bit j of up to 32 output channels.

    Returns per part of :func:`split_lanes` its type, first channel, number of words and the rows (G, words, bits,
    K + 1); the last row is zero and fills up incomplete lists.
    """
    groups, channels, inputs = weight.shape
    scale, offset = offset_of(bits, odd)
    stored = (weight.astype(np.int64) + offset) // scale
    parts = []
    for ctype, first, words in split_lanes(channels):
        lanes = 8 * WIDTHS[ctype]
        padded = np.zeros((groups, words * lanes, inputs + 1), np.int64)
        part = stored[:, first : first + words * lanes]
        padded[:, : part.shape[1], :inputs] = part
        planes = (padded[:, :, None, :] >> np.arange(bits)[:, None]) & 1  # (G, channel, bit, K + 1)
        shifted = planes.reshape(groups, words, lanes, bits, inputs + 1) << np.arange(lanes)[:, None, None]
        parts.append((ctype, first, words, shifted.sum(2)))
    return parts


def whole_bytes(bits: int, odd: bool) -> bool:
    """Is a weight stored as it is, one int8_t?"""
    return bits == 8 and not odd


def stream(weight: Weight, bits: int, odd: bool) -> tuple[str, NDArray[np.int64]]:
    """Weights in the given order at exactly ``bits`` bits each: int8 where they are whole bytes, else biased values.

    A stream ends with one spare byte, so that a weight can always be read as two bytes.
    """
    if whole_bytes(bits, odd):
        return "int8_t", weight.reshape(-1).astype(np.int64)
    scale, offset = offset_of(bits, odd)
    biased = (weight.astype(np.int64).reshape(-1) + offset) // scale
    flags = ((biased[:, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(-1)
    packed = np.packbits(flags, bitorder="little").tobytes()
    return "uint8_t", np.frombuffer(packed + b"\0", np.uint8).astype(np.int64)


def _signed(value: int) -> str:
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)
