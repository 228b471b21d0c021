"""Bits per layer under a budget, for a trained full-precision network: sensitivity, choice, and the record of both."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from .. import compress, learn, measure
from ..compress import MixedBits
from ..compress.allocate import Allocation, allocate, allocation_front
from ..compress.file_budget import allocate_file, allocation_record, weight_bytes
from ..compress.mixed import QUANTIZERS, weight_layers
from ..compress.rescaw import check_bits, check_choice
from ..compress.sensitivity import CANDIDATE_BITS, layer_sensitivity
from ..data import Split
from ..errors import ConfigError
from ..learn.progress import activity
from .budget import Budget, parse_budget

__all__ = ["BitBudget", "choose_bits"]

ROOM = 0.98  # of a byte budget: fine-tuning may widen stored thresholds and biases
FRONT_POINTS = 12

Compile = Callable[[nn.Module], bytes]
Table = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class BitBudget:
    """``budget``: of the artifact ("100kB") or of one inference on one thread ("1.5ms"); ``bits``: the candidates."""

    budget: str
    bits: tuple[int, ...] = CANDIDATE_BITS
    quantizer: str = "rescaw-max"

    def __post_init__(self) -> None:
        parse_budget(self.budget)
        if not self.bits:
            raise ConfigError("bits is empty, accepted: at least one candidate from 1 to 8")
        for bits in self.bits:
            check_bits("a candidate of bits", bits)
        check_choice("quantizer", self.quantizer, QUANTIZERS)


def choose_bits(
    model: nn.Module, request: BitBudget, calibration: list[Tensor], validation: Split, compiled: Compile
) -> tuple[MixedBits, dict[str, Any]]:
    """The bits that lose least within the budget, and the report's record with a front of accuracies.

    model: trained, its weights not quantized; left as it is. compiled: the artifact of a quantized model.
    The front's accuracies are of validation samples and before any training of the quantized network, the chosen point's
    too. Raises ConfigError naming the smallest possible cost where the budget is too small.
    """
    budget = parse_budget(request.budget)
    with activity("measuring how much each layer's bits matter"):
        sensitivity = layer_sensitivity(model, calibration, request.bits, request.quantizer)

    def quantized(bits: dict[str, int]) -> nn.Module:
        return compress.apply(copy.deepcopy(model), MixedBits(bits, quantizer=request.quantizer)).eval()

    with activity("choosing bits within the budget"):
        costs, chosen = CHOICES[budget.unit](model, request, budget, sensitivity.table, quantized, compiled, validation)
        front = allocation_front(sensitivity.table, costs, points=FRONT_POINTS, fixed=chosen.fixed)
    record = allocation_record(sensitivity, costs, chosen, front, budget.unit)
    with activity("measuring accuracies along the front"):
        for point, allocation in zip([record["chosen"], *record["front"]], [chosen, *front], strict=True):
            point["accuracy"] = learn.evaluate(quantized(allocation.bits), validation).accuracy
    return MixedBits(chosen.bits, quantizer=request.quantizer), record | {"budget": request.budget}


def _by_bytes(
    model: nn.Module,
    request: BitBudget,
    budget: Budget,
    table: Table,
    quantized: Callable[[dict[str, int]], nn.Module],
    compiled: Compile,
    validation: Split,
) -> tuple[Table, Allocation]:
    costs = weight_bytes(model, request.bits)

    def with_room(bits: dict[str, int]) -> int:
        return math.ceil(len(compiled(quantized(bits))) / ROOM)

    chosen = allocate_file(table, costs, int(budget.value), with_room)
    length, weights = len(compiled(quantized(chosen.bits))), chosen.cost - chosen.fixed
    return costs, replace(chosen, cost=float(length), fixed=length - weights)


def _by_seconds(
    model: nn.Module,
    request: BitBudget,
    budget: Budget,
    table: Table,
    quantized: Callable[[dict[str, int]], nn.Module],
    compiled: Compile,
    validation: Split,
) -> tuple[Table, Allocation]:
    layers = list(weight_layers(model))
    artifacts = {bits: compiled(quantized(dict.fromkeys(layers, bits))) for bits in request.bits}
    times = measure.layer_times(artifacts, layers, validation.inputs[0])
    return times.seconds, allocate(table, times.seconds, budget.value, fixed=times.rest, unit="seconds")


# unit of the budget -> (cost of every layer at every candidate, the choice)
CHOICES = {"bytes": _by_bytes, "seconds": _by_seconds}
