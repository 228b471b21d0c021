"""Spikes as bits on a GPU, eight to a byte; in layout and meaning the functions of ``ops.packing`` of the same names."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ConfigError
from .runtime import OPTIONS, device_of, kernels, refusal

__all__ = ["pack_bits", "unpack_bits"]

BLOCK = 256  # bytes per program


def pack_bits(values: Tensor) -> Tensor | None:
    """Flat values (K,) to bytes (ceil(K / 8),), value 8i + j in bit j of byte i; None unless all are 0 or 1.

    One pass over the values; waits for the GPU, as the answer decides what the caller does next. Raises ConfigError for
    a dtype or device without kernels, or where triton is missing.
    """
    _check(values)
    packed, others = _pack(values)
    return None if others.any() else packed


def unpack_bits(data: Tensor, out: Tensor) -> Tensor:
    """Inverse of :func:`pack_bits`: fills and returns ``out`` (K,), contiguous.

    Raises ConfigError where the number of bytes is not that of ``out`` or it has gaps, or for a dtype or device without kernels.
    """
    _check(out)
    if len(data) != -(-len(out) // 8):
        raise ConfigError(f"there are {len(data)} bytes, accepted for {len(out)} values: {-(-len(out) // 8)}")
    if not out.is_contiguous():
        raise ConfigError(f"out has stride {out.stride(0)}, accepted: 1")
    _unpack(data, out)
    return out


def _check(tensor: Tensor) -> None:
    reason = refusal(tensor)
    if reason is not None:
        raise ConfigError(reason)


@torch.library.custom_op("bitspike::pack_bits_triton", mutates_args=())
def _pack(values: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes, and for every program whether it met a value that is neither 0 nor 1."""
    packed, others = _outputs(values)
    if len(values):
        with device_of(values):
            kernels("bits").pack_kernel[(len(others),)](
                values.contiguous(), packed, others, len(values), BLOCK=BLOCK, **OPTIONS
            )
    return packed, others


@_pack.register_fake
def _(values: Tensor) -> tuple[Tensor, Tensor]:
    return _outputs(values)


def _outputs(values: Tensor) -> tuple[Tensor, Tensor]:
    count = -(-len(values) // 8)
    return values.new_empty(count, dtype=torch.uint8), values.new_empty(-(-count // BLOCK), dtype=torch.uint8)


@torch.library.custom_op("bitspike::unpack_bits_triton", mutates_args=("out",))
def _unpack(data: Tensor, out: Tensor) -> None:
    if len(out):
        with device_of(out):
            programs = -(-len(data) // BLOCK)
            kernels("bits").unpack_kernel[(programs,)](data, out, len(out), BLOCK=BLOCK, **OPTIONS)


@_unpack.register_fake
def _(data: Tensor, out: Tensor) -> None:
    return None
