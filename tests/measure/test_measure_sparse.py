"""Sizes of sparse storage: counted bits against written-out encodings, and where sparsity does not pay."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import small_model
from torch import nn

from bitspike.compress import QSNN, MixedBits, SoftThresholdPruning, apply, sparsity, threshold_driver
from bitspike.measure import SparseSizeRow, model_size, sparse_size


def layer(values: list[float]) -> nn.Module:
    model = nn.Sequential(nn.Linear(len(values), 1, bias=False))
    model[0].weight.data[:] = torch.tensor([values])
    return model


def row_of(values: list[float]) -> SparseSizeRow:
    return sparse_size(layer(values)).rows[0]


def written_gaps(values: list[float], gap_bits: int) -> list[tuple[int, float]]:
    """(zeros skipped, value) entries; a run too long for its field is broken by entries of value zero."""
    entries, run = [], 0
    for value in values:
        if value == 0 and run < 2**gap_bits - 1:
            run += 1
        else:
            entries.append((run, value))
            run = 0
    while entries and entries[-1][1] == 0:
        entries.pop()  # the number of weights is known
    return entries


def read_gaps(entries: list[tuple[int, float]], count: int) -> list[float]:
    values: list[float] = []
    for run, value in entries:
        values += [0.0] * run + [value]
    return values + [0.0] * (count - len(values))


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("count", [1, 63, 500])
def test_gaps_take_the_bits_of_entries_that_can_be_read_back(density: float, count: int) -> None:
    values = (torch.randn(count) * (torch.rand(count) < density)).tolist()
    sizes = []
    for gap_bits in range(1, 17):
        entries = written_gaps(values, gap_bits)
        assert read_gaps(entries, count) == values and all(run < 2**gap_bits for run, _ in entries)
        sizes.append(len(entries) * (gap_bits + 32))
    row = row_of(values)
    nonzero = sum(v != 0 for v in values)
    assert row.encodings == {"dense": 32 * count, "bitmap": count + 32 * nonzero, "gaps": min(sizes)}
    assert (row.zeros, row.weights) == (count - nonzero, count)


def test_the_smallest_encoding_is_named() -> None:
    assert row_of([1.0] * 40).smallest == "dense"
    assert row_of((torch.rand(4000) < 0.5).float().tolist()).smallest == "bitmap"
    assert row_of([0.0, 1.0] * 20).smallest == "gaps"
    assert row_of([0.0] * 400 + [1.0]).smallest == "gaps"
    assert row_of([0.0] * 40).encodings["gaps"] == 0
    assert [row_of(v).pays for v in ([1.0] * 40, [0.0, 1.0] * 20)] == [False, True]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_random_zeros_pay_above_one_in_as_many_as_there_are_bits(bits: int) -> None:
    for offset in (-0.05, 0.05):
        share, count = 1 / bits + offset, 40_000
        model = layer([1.0] * count)
        apply(model, MixedBits(default=bits, quantizer="symmetric"))
        mask = torch.rand(count) < share
        model[0].parametrizations["weight"].original.data[0, mask] = 0.0
        row = sparse_size(model).rows[0]
        assert row.bits == bits and row.break_even == 1 / bits
        assert row.pays == (offset > 0), f"{row.zeros / count:.3f} zeros of {bits} bits"


@pytest.mark.parametrize("final, pays", [(0.0, False), (0.3, True)])
def test_report_of_a_quantized_network(final: float, pays: bool) -> None:
    config = SoftThresholdPruning(final)
    model = apply(small_model("vggsnn"), config)
    threshold_driver(config, [1.0])(model, 1.0)
    apply(model, MixedBits(default=8, quantizer="symmetric"))
    report = sparse_size(model)
    assert [row.name for row in report.rows] == [layer.name for layer in sparsity(model).layers]
    assert sum(row.zeros for row in report.rows) == sparsity(model).zeros
    assert report.dense_bytes == sum(r.bytes for r in model_size(model).rows if r.kind == "weight")
    assert (report.smallest_bytes < report.dense_bytes) == pays == any(row.pays for row in report.rows)
    data = report.as_dict()
    assert "The artifact is dense" in data["rule"] and data["smallest_bytes"] == report.smallest_bytes
    assert data["rows"][0]["bytes"]["dense"] == report.rows[0].weights and math.isclose(
        data["rows"][0]["break_even"], 0.125
    )


def test_one_bit_weights_never_pay() -> None:
    rows = sparse_size(apply(small_model("vggsnn"), QSNN())).rows
    assert not any(row.pays for row in rows if row.bits == 1) and any(row.bits == 1 for row in rows)
