"""Model size: every stored bit, by one stated rule.

A weight counts at the bits its quantizer declares; batch norm weight and bias, biases, full-precision weights and
learned quantizer parameters count 32 bits each. Running statistics of batch norm and the scales that a quantizer
derives from its weights are not counted: both fold into what is counted. MB = 10^6 bytes. This is the rule of the
QP-SNN paper (its equation 16), which reproduces the sizes published there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from ..errors import ArtifactError
from ..ops import weight_quantizer

__all__ = ["SizeReport", "SizeRow", "artifact_sections", "model_size"]

RULE = (
    "Weights at their quantizer's bits; batch norm weight and bias, biases and full-precision weights at 32 bits; "
    "running statistics not counted; 1 MB = 10^6 bytes."
)
FULL_PRECISION_BITS = 32
HEADER_BYTES, ENTRY_BYTES = 24, 32
SECTION_NAMES = {1: "graph", 2: "parameters", 3: "weights", 4: "calibration", 5: "metadata", 6: "test vectors"}


@dataclass(frozen=True)
class SizeRow:
    """``parameters`` values of ``bits`` bits stored for layer ``name``; ``kind``: weight, bias, batch norm, neuron, other."""

    name: str
    kind: str
    parameters: int
    bits: int

    @property
    def bytes(self) -> float:
        """Bytes, with fractions of a byte kept so that rows add up to the total."""
        return self.parameters * self.bits / 8

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "parameters": self.parameters,
            "bits": self.bits,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class SizeReport:
    """Rows in definition order and their totals."""

    rows: tuple[SizeRow, ...]
    rule: str = RULE

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def bytes(self) -> float:
        return sum(row.parameters * row.bits for row in self.rows) / 8

    @property
    def megabytes(self) -> float:
        """MB of 10^6 bytes."""
        return self.bytes / 1e6

    @property
    def fp32_bytes(self) -> int:
        """The same parameters at 32 bits each."""
        return self.parameters * FULL_PRECISION_BITS // 8

    def as_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "fp32_bytes": self.fp32_bytes,
            "rows": [row.as_dict() for row in self.rows],
        }


def model_size(model: nn.Module) -> SizeReport:
    """Size of ``model``'s parameters; a parameter that several layers share counts once."""
    rows = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, parametrize.ParametrizationList):
            continue  # counted with the layer that carries it
        counts: dict[tuple[str, int], int] = {}
        for parameter, key in _own_parameters(module):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                counts[key] = counts.get(key, 0) + parameter.numel()
        rows += [SizeRow(name or "model", kind, count, bits) for (kind, bits), count in counts.items()]
    return SizeReport(tuple(rows))


def artifact_sections(data: bytes | str | os.PathLike[str]) -> dict[str, int]:
    """Bytes of a ``.bspk`` file (content or path) by section; "header" is header, section table and padding.

    The values add up to the file's length. ArtifactError where the table cannot be read; the contents are not verified.
    """
    body = data if isinstance(data, bytes) else Path(data).read_bytes()
    if len(body) < HEADER_BYTES or body[:4] != b"BSPK":
        raise ArtifactError("not a .bspk file: the first four bytes are not 'BSPK'")
    length, count = struct.unpack_from("<QI", body, 8)
    if length != len(body) or HEADER_BYTES + ENTRY_BYTES * count > len(body):
        raise ArtifactError(f"the header declares {length} bytes and {count} sections, the file has {len(body)} bytes")
    sections = {}
    for index in range(count):
        kind, _, _, size, _, _ = struct.unpack_from("<IIQQII", body, HEADER_BYTES + ENTRY_BYTES * index)
        sections[SECTION_NAMES.get(kind, f"section {kind}")] = size
    if sum(sections.values()) > len(body):
        raise ArtifactError(f"the sections declare {sum(sections.values())} bytes, the file has {len(body)}")
    return {"header": len(body) - sum(sections.values())} | sections


def _own_parameters(module: nn.Module) -> Iterator[tuple[nn.Parameter, tuple[str, int]]]:
    """Parameters of this module itself, each with (kind, bits); those of a parametrization belong to its layer."""
    for name, parameter in module.named_parameters(recurse=False):
        yield parameter, (_kind(module, name), FULL_PRECISION_BITS)
    if not parametrize.is_parametrized(module):
        return
    for name, attached in module.parametrizations.items():  # type: ignore[operator, union-attr]
        quantizer = weight_quantizer(module, name)
        bits = FULL_PRECISION_BITS if quantizer is None else quantizer.precision.bits
        for own, parameter in attached.named_parameters():
            original = own.startswith("original")
            yield parameter, (_kind(module, name), bits) if original else ("quantizer", FULL_PRECISION_BITS)


def _kind(module: nn.Module, parameter: str) -> str:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "batch norm"
    if parameter in ("weight", "bias"):
        return parameter
    return "neuron" if type(module).__module__.split(".")[-2:-1] == ["neurons"] else "other"
