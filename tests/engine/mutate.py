"""Damage to artifact bytes that keeps checksums and lengths consistent, so that it reaches the code behind them."""

from __future__ import annotations

import struct

from bitspike import _native

HEADER, ENTRY = 24, 32


def sections(data: bytes) -> list[tuple[int, int, bytes]]:
    """(type, flags, body) of every section of a valid file."""
    found = []
    for i in range(struct.unpack_from("<I", data, 16)[0]):
        kind, flags, offset, length = struct.unpack_from("<IIQQ", data, HEADER + ENTRY * i)
        found.append((kind, flags, data[offset : offset + length]))
    return found


def assemble(parts: list[tuple[int, int, bytes]]) -> bytes:
    """A file with these sections, and correct offsets, lengths and checksums."""
    offset = HEADER + ENTRY * len(parts)
    table, bodies = b"", b""
    for kind, flags, body in parts:
        table += struct.pack("<IIQQII", kind, flags, offset + len(bodies), len(body), _native.crc32c(body), 0)
        bodies += body + b"\0" * (-len(body) % 8)
    return repair_header(struct.pack("<4sHHQII", b"BSPK", 1, 1, 0, len(parts), 0) + table + bodies)


def repair_header(data: bytes) -> bytes:
    """The file with its real length and the right checksum of header and section table."""
    out = bytearray(data)
    table_end = min(HEADER + ENTRY * struct.unpack_from("<I", out, 16)[0], len(out))
    out[8:16] = struct.pack("<Q", len(out))
    out[20:24] = bytes(4)
    out[20:24] = struct.pack("<I", _native.crc32c(bytes(out[:table_end])))
    return bytes(out)


def replace(data: bytes, kind: int, body: bytes) -> bytes:
    """The file with another body for the section ``kind``, added if there is none."""
    parts = {k: (k, flags, b) for k, flags, b in sections(data)}
    parts[kind] = (kind, int(kind <= 3), body)
    return assemble([parts[k] for k in sorted(parts)])


def body(data: bytes, kind: int) -> bytes:
    """Body of the section ``kind``."""
    return next(b for k, _, b in sections(data) if k == kind)


def set_word(data: bytes, kind: int, index: int, value: int) -> bytes:
    """The file with 32-bit word ``index`` of a section's body set."""
    new = bytearray(body(data, kind))
    new[4 * index : 4 * index + 4] = struct.pack("<I", value & 0xFFFFFFFF)
    return replace(data, kind, bytes(new))


def set_record(data: bytes, node: int, word: int, value: int) -> bytes:
    """The file with one word of a node's record set."""
    return set_word(data, 1, 2 + 16 * node + word, value)
