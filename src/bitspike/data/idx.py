"""The IDX format of MNIST and its relatives.

Layout: two zero bytes, a type code, the number of axes, one big-endian uint32 per axis, then the values
in row-major order, big-endian, and nothing after them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from bitspike.data.errors import DataError
from bitspike.data.files import read_packed

__all__ = ["parse_idx", "read_idx"]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_AXES = 8  # far above any real file; keeps a damaged count from being believed


def parse_idx(data: bytes, source: str) -> np.ndarray:
    """The array in `data`, in native byte order; `source` is the file name used in errors.

    Raises DataError if the header is not an IDX header or the length is not exactly what it says.
    """
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DataError(f"{source}: not an IDX file: starts with {data[:4].hex(' ') or 'nothing'}, not 00 00")
    code, axes = data[2], data[3]
    if code not in _DTYPES:
        accepted = ", ".join(f"0x{c:02x}" for c in _DTYPES)
        raise DataError(f"{source}: IDX type code 0x{code:02x}; accepted: {accepted}")
    if not 1 <= axes <= _MAX_AXES:
        raise DataError(f"{source}: IDX header says {axes} axes; accepted: 1 to {_MAX_AXES}")
    start = 4 + 4 * axes
    if len(data) < start:
        raise DataError(f"{source}: cut short: {len(data)} bytes, but its header alone takes {start}")
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    if 0 in shape:
        raise DataError(f"{source}: IDX header says shape {shape}; every axis must be at least 1")
    dtype = np.dtype(_DTYPES[code])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise DataError(f"{source}: {len(data)} bytes, but shape {shape} of {dtype.name} takes {expected}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, plain or packed as .gz or .xz. Raises DataError naming the file."""
    return parse_idx(read_packed(path), str(path))
