"""Tensors of few values in as few bits as that takes, and back without loss.

Spikes take one bit instead of the 32 of a float. Their sums over shortcuts are small whole numbers, and their means over
2x2 windows are quarters: one byte. Anything else is left as it is, found by comparing every value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Packed", "pack", "pack_bits", "unpack", "unpack_bits"]

BLOCK = 1 << 18  # values at a time on a CPU, so that what lies between a tensor and its code stays in a cache
GATHER = 0x0102040810204080  # times eight bytes of 0 or 1: their bits, side by side in the highest byte
SPREAD = 0x0101010101010101  # times a byte: eight copies of it
PICK = 0x8040201008040201 - (1 << 64)  # bit j of the j-th of eight bytes


@dataclass(frozen=True)
class Packed:
    """A tensor as ``data`` (uint8, flat, in the order of memory) that ``code`` reads, and what it looked like."""

    data: Tensor
    code: str
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


def pack_bits(values: Tensor) -> Tensor | None:
    """Flat values (K,) to bytes (ceil(K / 8),), value 8i + j in bit j of byte i; None unless all are 0 or 1."""
    blocks = []
    for block in _blocks(values):
        if not _same(
            torch.eq(block, 1, out=torch.empty_like(block)), block
        ):  # into floats: bools take six times longer
            return None
        ones = block.bool()
        missing = -len(ones) % 8
        eights = torch.nn.functional.pad(ones, (0, missing)) if missing else ones
        blocks.append((eights.view(torch.int64) * GATHER >> 56).to(torch.uint8))
    return _joined(blocks, values)


def unpack_bits(data: Tensor, out: Tensor) -> Tensor:
    """Inverse of :func:`pack_bits`: fills and returns ``out`` (K,), of any dtype."""
    for first in range(0, len(out), BLOCK):
        block = out[first : first + BLOCK]
        eights = data[first // 8 : (first + len(block) + 7) // 8].to(torch.int64)
        torch.ne(((eights * SPREAD) & PICK).view(torch.uint8)[: len(block)], 0, out=block)
    return out


def _pack_multiples(parts: int) -> Callable[[Tensor], Tensor | None]:
    def pack_multiples(values: Tensor) -> Tensor | None:
        blocks = []
        for block in _blocks(values):
            data = (block * parts).to(torch.uint8)
            if not _same(data.to(block.dtype).div_(parts), block):
                return None
            blocks.append(data)
        return _joined(blocks, values)

    return pack_multiples


def _unpack_multiples(parts: int) -> Callable[[Tensor, Tensor], Tensor]:
    def unpack_multiples(data: Tensor, out: Tensor) -> Tensor:
        return out.copy_(data).div_(parts)

    return unpack_multiples


# Tried in this order: what packs, and what unpacks.
CODES: dict[str, tuple[Callable[[Tensor], Tensor | None], Callable[[Tensor, Tensor], Tensor]]] = {
    "bits": (pack_bits, unpack_bits),
    "counts": (_pack_multiples(1), _unpack_multiples(1)),
    "quarters": (_pack_multiples(4), _unpack_multiples(4)),
}


def pack(x: Tensor) -> Packed | None:
    """``x`` in the shortest code that gives back each of its values, or None where there is none.

    A tensor that no code suits is mostly refused by its first values. Ignores the sign of zeros.
    """
    if x.is_meta or not x.is_floating_point() or not _is_dense(x):
        return None
    values = x.detach().as_strided((x.numel(),), (1,))
    for code, (packs, _) in CODES.items():
        data = packs(values)
        if data is not None:
            return Packed(data, code, x.shape, x.stride(), x.dtype)
    return None


def unpack(packed: Packed) -> Tensor:
    """The tensor that was packed: its values, strides and dtype."""
    x = torch.empty_strided(packed.shape, packed.stride, dtype=packed.dtype, device=packed.data.device)
    CODES[packed.code][1](packed.data, x.as_strided((x.numel(),), (1,)))
    return x


def _same(made: Tensor, values: Tensor) -> bool:
    """Whether all are equal, so none is NaN; overwrites ``made``."""
    low, high = torch.aminmax(made.sub_(values))
    return bool((low == 0) & (high == 0))


def _is_dense(x: Tensor) -> bool:
    """Whether the values fill their stretch of memory, in any order of the axes."""
    expected = 1
    for stride, size in sorted((stride, size) for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _blocks(values: Tensor) -> tuple[Tensor, ...]:
    if not len(values):
        return ()
    return values.split(BLOCK) if values.device.type == "cpu" else (values,)


def _joined(blocks: list[Tensor], values: Tensor) -> Tensor:
    return torch.cat(blocks) if blocks else values.new_empty(0, dtype=torch.uint8)
