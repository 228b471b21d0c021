"""Eight values to a byte and back: bit k of byte i stands for value 8 i + k."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["pack_kernel", "unpack_kernel"]


@triton.jit
def _positions(BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    lanes = tl.arange(0, 8)
    return places, lanes, places[:, None] * 8 + lanes[None, :]


@triton.jit
def pack_kernel(values_ptr, bytes_ptr, others_ptr, count, BLOCK: tl.constexpr):
    """``others_ptr``: one byte per program, 1 where one of its values is neither 0 nor 1."""
    places, lanes, positions = _positions(BLOCK)
    values = tl.load(values_ptr + positions, mask=positions < count, other=0)
    ones = values == 1
    bits = ones.to(tl.int32) << lanes[None, :]
    tl.store(bytes_ptr + places, tl.sum(bits, axis=1).to(tl.uint8), mask=places * 8 < count)
    others = 1 - (ones | (values == 0)).to(tl.int32)
    tl.store(others_ptr + tl.program_id(0), tl.max(tl.max(others, axis=1), axis=0).to(tl.uint8))


@triton.jit
def unpack_kernel(bytes_ptr, values_ptr, count, BLOCK: tl.constexpr):
    places, lanes, positions = _positions(BLOCK)
    packed = tl.load(bytes_ptr + places, mask=places * 8 < count, other=0).to(tl.int32)
    bits = (packed[:, None] >> lanes[None, :]) & 1
    tl.store(values_ptr + positions, bits.to(tl.float32).to(values_ptr.dtype.element_ty), mask=positions < count)
