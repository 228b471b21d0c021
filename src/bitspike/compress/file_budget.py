"""Bits per layer for a file of given length, and the record of the choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from .allocate import Allocation, Table, allocate, allocation_at, check_tables, too_small
from .mixed import weight_layers
from .sensitivity import Sensitivity

__all__ = ["allocate_file", "allocation_record", "weight_bytes"]


def weight_bytes(model: nn.Module, bits: Sequence[int]) -> dict[str, dict[int, float]]:
    """Bytes of every layer's weights at each of ``bits``, by the rule of ``measure.model_size``: values * bits / 8."""
    return {name: {b: layer.weight.numel() * b / 8 for b in bits} for name, layer in weight_layers(model).items()}


def allocate_file(
    sensitivities: Table, costs: Table, budget: int, file_bytes: Callable[[dict[str, int]], int]
) -> Allocation:
    """The bits whose artifact takes at most ``budget`` bytes; ``cost`` is its measured length.

    file_bytes: length of the artifact compiled at given bits. What the file holds besides weights (thresholds, biases,
    names, self-test) is measured, as its length less the weights' ``costs``; it depends a little on the bits, so an
    allocation is compiled before it is returned, and made anew with what it really took if the file is too large.
    Training after the allocation may widen a stored threshold or bias: compile and allocate again, or leave some room.
    Raises ConfigError naming the smallest possible file.
    """
    check_tables(sensitivities, costs)
    least = {name: min(row, key=lambda b: (row[b], b)) for name, row in costs.items()}
    smallest = _measured(least, sensitivities, costs, file_bytes)
    if smallest.cost > budget:
        raise too_small(budget, smallest.cost, "bytes")
    overhead = smallest.fixed
    while overhead + smallest.cost - smallest.fixed <= budget:  # grows with every turn: what was tried took more
        found = allocate(sensitivities, costs, budget, fixed=overhead)
        measured = _measured(found.bits, sensitivities, costs, file_bytes)
        if measured.cost <= budget:
            return measured
        overhead = measured.fixed
    return smallest


def allocation_record(
    sensitivity: Sensitivity, costs: Table, chosen: Allocation, front: Sequence[Allocation], unit: str = "bytes"
) -> dict[str, Any]:
    """The allocation as JSON values, the key "allocation" of ``measure.report``; accuracies are null until measured."""

    def point(allocation: Allocation) -> dict[str, Any]:
        return {"cost": allocation.cost, "predicted": allocation.predicted, "accuracy": None}

    return {
        "measure": sensitivity.measure,
        "quantizer": sensitivity.quantizer,
        "samples": sensitivity.samples,
        "forward_passes": sensitivity.forward_passes,
        "seconds": sensitivity.seconds,
        "unit": unit,
        "fixed": chosen.fixed,
        "layers": [
            {"name": name, "bits": b, "cost": costs[name][b], "sensitivity": sensitivity.table[name][b]}
            for name, b in chosen.bits.items()
        ],
        "chosen": point(chosen),
        "front": [point(allocation) for allocation in front],
    }


def _measured(
    bits: dict[str, int], losses: Table, costs: Table, file_bytes: Callable[[dict[str, int]], int]
) -> Allocation:
    """The allocation at the length of its file; fixed is what the file holds besides the weights."""
    length = file_bytes(bits)
    bare = allocation_at(bits, losses, costs)
    return replace(bare, cost=float(length), fixed=length - bare.cost)
