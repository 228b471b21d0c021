"""Rows of a (steps, features) array, a block of columns at a time, in the dtype that is computed in."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["block_columns", "live", "load_rows", "value"]


@triton.jit
def block_columns(features, BLOCK: tl.constexpr):
    """Columns of this program and which of them exist; 64 bits, as arrays may hold more than 2^31 values."""
    columns = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return columns, columns < features


@triton.jit
def live(row, limit, inside):
    """``inside`` where 0 <= row < limit, else all false. Compared as blocks: Triton's interpreter mixes no scalar masks in."""
    rows = row + tl.zeros_like(inside).to(tl.int64)
    return inside & (rows >= 0) & (rows < limit)


@triton.jit
def load_rows(pointer, first, limit, pitch, columns, inside, dtype: tl.constexpr, COUNT: tl.constexpr):
    """Rows first, ..., first + COUNT - 1 as a tuple; zeros where a row is below 0 or not below ``limit``."""
    rows = ()
    for k in tl.static_range(COUNT):
        place = pointer + (first + k) * tl.cast(pitch, tl.int64) + columns
        rows = rows + (tl.load(place, mask=live(first + k, limit, inside), other=0.0).to(dtype),)
    return rows


@triton.jit
def value(pointer, constant, dtype: tl.constexpr):
    """The scalar at ``pointer``, or ``constant`` where that is None."""
    if pointer is None:
        return tl.full((), constant, dtype)
    else:
        return tl.load(pointer).to(dtype)
