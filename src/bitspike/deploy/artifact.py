"""The ``.bspk`` file: an integer graph as bytes. Layout and rules: docs/format.md.

Only the writer lives here. Reading is done by the one validating loader in the native engine.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import ir, reference
from .check import check
from .ir_stream import AXES, TRANSPOSES

__all__ = ["TestVectors", "crc32c", "encode", "save"]

MAGIC = b"BSPK"
VERSION = (1, 1)  # of files whose weights are all symmetric: these keep their bytes
ODD_VERSION = (1, 2)
STREAM_VERSION = (1, 3)  # of files with operations that older readers do not know
SECTIONS = {"GRAPH": 1, "PARAMS": 2, "WEIGHTS": 3, "CALIB": 4, "META": 5, "TESTVEC": 6}
REQUIRED = ("GRAPH", "PARAMS", "WEIGHTS")
OLDER = (ir.Input, ir.Conv, ir.Linear, ir.Lif, ir.OrPool, ir.SumPool, ir.Add, ir.Readout, ir.Attention)
OPERATIONS = (*OLDER, ir.Stream, ir.MaxPool, ir.Reduce, ir.Gate, ir.MatMul, ir.Concat, ir.Mix, ir.Product)

TestVectors = NDArray[np.uint8]
"""u8 samples (n, [T,] C, H, W) stored with their expected outputs for a self-test."""


def save(graph: ir.Graph, path: str | os.PathLike[str], test_vectors: TestVectors | None = None) -> int:
    """Write the artifact atomically; returns its size in bytes. LoweringError if the graph is not valid."""
    data = encode(graph, test_vectors)
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(data)
    os.replace(partial, target)
    return len(data)


def encode(graph: ir.Graph, test_vectors: TestVectors | None = None) -> bytes:
    """The artifact as bytes; equal graphs give equal bytes."""
    check(graph)
    shapes = ir.node_shapes(graph)
    records, params, weights = (
        bytearray(struct.pack("<II", graph.time_steps, len(graph.nodes))),
        bytearray(),
        bytearray(),
    )
    for node, shape in zip(graph.nodes, shapes, strict=True):
        codes = _append_params(params, _params(node))
        records += struct.pack("<I2i10I2iI", *_record(node, shape), codes)
        if isinstance(node, ir.Conv | ir.Linear | ir.Readout):
            weights += pack_weights(node.weight, node.bits, node.odd)
    bodies = {"GRAPH": bytes(records), "PARAMS": bytes(params), "WEIGHTS": bytes(weights)}
    if graph.rates:
        bodies["CALIB"] = np.asarray(graph.rates, "<f4").tobytes()
    meta = dict(graph.meta) | ({"names": graph.names} if graph.names else {})
    if meta:
        bodies["META"] = json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()
    if test_vectors is not None and len(test_vectors):
        bodies["TESTVEC"] = _test_vectors(graph, test_vectors)
    return _assemble(bodies, _version(graph))


def _version(graph: ir.Graph) -> tuple[int, int]:
    """The least version whose readers know everything in the graph."""
    if not all(isinstance(node, OLDER) for node in graph.nodes):
        return STREAM_VERSION
    odd = any(n.odd for n in graph.nodes if isinstance(n, ir.Conv | ir.Linear | ir.Readout))
    return ODD_VERSION if odd else VERSION


def pack_weights(weight: ir.Weight, bits: int, odd: bool = False) -> bytes:
    """b-bit two's complement, least significant bit first, one continuous stream padded with zeros to 4 bytes.

    Odd levels 2 q - (2^b - 1) are stored as q; at 1 bit always, so that +1 is 1 and -1 is 0.
    """
    values = weight.reshape(-1).astype(np.int64)
    values = (values + 2**bits - 1) // 2 if odd or bits == 1 else values & ((1 << bits) - 1)
    stream = ((values[:, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(-1)
    return _padded(np.packbits(stream, bitorder="little").tobytes(), 4)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected, initial and final value all ones)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def _record(node: ir.Node, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """op, two sources, C, H, W, kernel h, w, stride, padding, groups, bits, options, fourth and third source (15 numbers)."""
    first, second = (*ir.sources(node), -1, -1)[:2]
    geometry, bits, options = (0, 0, 0, 0, 0), 0, (0, 0, 0)
    match node:
        case ir.Input():
            options = (node.frames, 0, 0)
        case ir.Conv():
            geometry = (*node.weight.shape[2:], node.stride, node.padding, node.groups)
            bits, options = node.bits, (0, int(node.odd), 0)
        case ir.Linear():
            bits, options = node.bits, (0, int(node.odd), 0)
        case ir.Lif():
            bits, options = node.membrane_bits, (node.leak_shift, int(node.soft_reset), 0)
        case ir.OrPool():
            geometry = (node.kernel, node.kernel, node.stride, node.padding, 0)
        case ir.SumPool():
            geometry = (node.kernel, node.kernel, node.stride, 0, 0)
        case ir.Attention():
            geometry, options = (0, 0, 0, 0, node.heads), (0, 0, node.value)
        case ir.Readout():
            bits, options = node.bits, (int(node.pool), int(node.odd), 0)
        case ir.Stream():
            third, fourth = (*node.sources[2:], -1, -1)[:2]
            bits, options = node.bits, (node.multiplier.shape[1], fourth, third)
        case ir.Concat():
            third, fourth = (*node.sources[2:], -1, -1)[:2]
            options = (0, fourth, third)
        case ir.MaxPool():
            geometry = (node.kernel, node.kernel, node.stride, node.padding, 0)
        case ir.Reduce():
            geometry, options = (0, 0, 0, 0, node.heads), (AXES[node.axis], 0, 0)
        case ir.MatMul():
            geometry, options = (0, 0, 0, 0, node.heads), (TRANSPOSES[node.transpose], 0, 0)
    return (OPERATIONS.index(type(node)), first, second, *shape, *geometry, bits, *options)


def _params(node: ir.Node) -> Sequence[NDArray[np.int32]]:
    match node:
        case ir.Input():
            return [np.asarray(node.zero_point, np.int32)]
        case ir.Lif():
            return [*node.multiplier, node.bias, node.threshold, node.membrane_shift.astype(np.int32)]
        case ir.Readout():
            return [node.bias]
        case ir.Stream():
            return [*node.multiplier, node.bias, node.shift.astype(np.int32)]
        case ir.Mix():
            return [node.weight, node.threshold]
        case _:
            return []


def _append_params(section: bytearray, arrays: Iterable[NDArray[np.int32]]) -> int:
    """Append each array in its narrowest form; returns the width codes, four bits per array, first lowest."""
    codes = 0
    for position, array in enumerate(arrays):
        code, body = _narrowest(array.reshape(-1))
        codes |= code << (4 * position)
        section += _padded(body, 4)
    return codes


def _narrowest(array: NDArray[np.int32]) -> tuple[int, bytes]:
    """Code 0: one int32 for all values; 1, 2, 4: int8, int16, int32 per value."""
    if (array == array[0]).all():
        return 0, array[:1].astype("<i4").tobytes()
    for width in (1, 2):
        if np.abs(array.astype(np.int64)).max() < 2 ** (8 * width - 1):
            return width, array.astype(f"<i{width}").tobytes()
    return 4, array.astype("<i4").tobytes()


def _test_vectors(graph: ir.Graph, samples: TestVectors) -> bytes:
    result = reference.run(graph, samples)
    body = bytearray(struct.pack("<I", len(samples)))
    for n in range(len(samples)):
        trace = b"".join(s[:, n].tobytes() for _, s in sorted(result.spikes.items()))
        body += _padded(samples[n].tobytes(), 4) + result.logits[n].astype("<i4").tobytes()
        body += struct.pack("<I", crc32c(trace))
    return bytes(body)


def _assemble(bodies: dict[str, bytes], version: tuple[int, int]) -> bytes:
    offset = 24 + 32 * len(bodies)
    table = bytearray()
    for name, body in bodies.items():
        required = int(name in REQUIRED)
        table += struct.pack("<IIQQII", SECTIONS[name], required, offset, len(body), crc32c(body), 0)
        offset += len(body) + (-len(body)) % 8
    head = struct.pack("<4sHHQI", MAGIC, *version, offset, len(bodies))
    crc = struct.pack("<I", crc32c(head + b"\0\0\0\0" + bytes(table)))
    return head + crc + bytes(table) + b"".join(_padded(b, 8) for b in bodies.values())


def _padded(data: bytes, multiple: int) -> bytes:
    return data + b"\0" * (-len(data) % multiple)
