"""What single zero weights could save in storage, encoding by encoding, and where they save nothing.

Counts the weights of convolutions and linear layers, at the bits their quantizer declares (32 without one). Zeros are
those of the stored values, what the quantizer rounds to zero included. The ``.bspk`` artifact stores weights dense: these
are sizes that a sparse file could have, not those of a file that is written.

Placed at random, zeros have to exceed a share of 1/b of b-bit weights, b of 2 or more, before any encoding is smaller
than dense: at b = 8 an eighth, at b = 4 a quarter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..ops import quantizer_input, weight_quantizer

__all__ = ["SparseSizeReport", "SparseSizeRow", "sparse_size"]

RULE = (
    "Weights only. Dense: b bits each. Bitmap: one bit each, and b for every non-zero one. Gaps: for every non-zero one the "
    "number of zeros before it in g bits, and b for its value, where a run too long for g bits takes further entries of "
    "value zero; the best g of 1 to 16. No encoding counts headers. The artifact is dense."
)
FULL_PRECISION_BITS = 32
GAP_BITS = range(1, 17)


def _dense(flat: Tensor, bits: int) -> int:
    return flat.numel() * bits


def _bitmap(flat: Tensor, bits: int) -> int:
    return flat.numel() + int(flat.count_nonzero()) * bits


def _gaps(flat: Tensor, bits: int) -> int:
    zeros = _zeros_before(flat)
    return min((len(zeros) + int((zeros >> gap).sum())) * (gap + bits) for gap in GAP_BITS)


def _zeros_before(flat: Tensor) -> Tensor:
    """(nonzeros,): how many zeros stand between each non-zero value and the one before it."""
    places = flat.nonzero().flatten()
    return torch.diff(places, prepend=places.new_tensor([-1])) - 1


# stored values in order, bits of a value -> bits of the layer
ENCODINGS: dict[str, Callable[[Tensor, int], int]] = {"dense": _dense, "bitmap": _bitmap, "gaps": _gaps}


@dataclass(frozen=True)
class SparseSizeRow:
    """Layer ``name``: ``zeros`` of ``weights`` values of ``bits`` bits, and its bits of storage by ``encoding``."""

    name: str
    weights: int
    zeros: int
    bits: int
    encodings: dict[str, int]

    @property
    def smallest(self) -> str:
        """The encoding that takes the fewest bits; dense where none takes fewer."""
        return min(self.encodings, key=lambda encoding: self.encodings[encoding])

    @property
    def pays(self) -> bool:
        """Whether any encoding of the zeros is smaller than dense."""
        return self.smallest != "dense"

    @property
    def break_even(self) -> float:
        """Share of zeros above which a bitmap is smaller than dense: 1/b. Zeros that lie at random pay no earlier as gaps."""
        return 1 / self.bits

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "weights": self.weights,
            "zeros": self.zeros,
            "bits": self.bits,
            "bytes": {encoding: bits / 8 for encoding, bits in self.encodings.items()},
            "smallest": self.smallest,
            "pays": self.pays,
            "break_even": self.break_even,
        }


@dataclass(frozen=True)
class SparseSizeReport:
    """Rows in definition order; fractions of a byte are kept, so that rows add up."""

    rows: tuple[SparseSizeRow, ...]
    rule: str = RULE

    @property
    def dense_bytes(self) -> float:
        return sum(row.encodings["dense"] for row in self.rows) / 8

    @property
    def smallest_bytes(self) -> float:
        """Every layer in its smallest encoding."""
        return sum(row.encodings[row.smallest] for row in self.rows) / 8

    def as_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "weights": sum(row.weights for row in self.rows),
            "zeros": sum(row.zeros for row in self.rows),
            "dense_bytes": self.dense_bytes,
            "smallest_bytes": self.smallest_bytes,
            "rows": [row.as_dict() for row in self.rows],
        }


@torch.no_grad()
def sparse_size(model: nn.Module) -> SparseSizeReport:
    """Storage of the weights of ``model`` dense, as bitmap and values, and as gaps and values."""
    rows = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            values, bits = _stored(layer)
            encodings = {encoding: count(values, bits) for encoding, count in ENCODINGS.items()}
            zeros = values.numel() - int(values.count_nonzero())
            rows.append(SparseSizeRow(name or "model", values.numel(), zeros, bits, encodings))
    return SparseSizeReport(tuple(rows))


def _stored(layer: nn.Conv2d | nn.Linear) -> tuple[Tensor, int]:
    """The values that a file would hold, flat, and their bits."""
    quantizer = weight_quantizer(layer)
    if quantizer is None:
        return layer.weight.flatten(), FULL_PRECISION_BITS
    return quantizer.integers(quantizer_input(layer))[0].flatten(), quantizer.precision.bits
