"""Bits per layer under a budget, for a trained full-precision network: sensitivity, choice, and the record of both."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
from .budget import parse_budget

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
        search = _Search(
            model,
            request.bits,
            budget.value,
            sensitivity.table,
            lambda bits: compiled(quantized(bits)),
            validation.inputs[0],
        )
        costs, chosen = CHOICES[budget.unit](search)
        front = allocation_front(sensitivity.table, costs, points=FRONT_POINTS, fixed=chosen.fixed)
    record = allocation_record(sensitivity, costs, chosen, front, budget.unit)
    with activity("measuring accuracies along the front"):
        for point, allocation in zip([record["chosen"], *record["front"]], [chosen, *front], strict=True):
            point["accuracy"] = learn.evaluate(quantized(allocation.bits), validation).accuracy
    return MixedBits(chosen.bits, quantizer=request.quantizer), record | {"budget": request.budget}


@dataclass(frozen=True)
class _Search:
    """What a choice is made of; ``limit`` in bytes or seconds, ``artifact``: that of given bits, ``sample``: what is timed."""

    model: nn.Module
    bits: tuple[int, ...]
    limit: float
    table: Table
    artifact: Callable[[dict[str, int]], bytes]
    sample: NDArray[np.uint8]


def _by_bytes(search: _Search) -> tuple[Table, Allocation]:
    costs = weight_bytes(search.model, search.bits)

    def with_room(bits: dict[str, int]) -> int:
        return math.ceil(len(search.artifact(bits)) / ROOM)

    chosen = allocate_file(search.table, costs, int(search.limit), with_room)
    length, weights = len(search.artifact(chosen.bits)), chosen.cost - chosen.fixed
    return costs, replace(chosen, cost=float(length), fixed=length - weights)


def _by_seconds(search: _Search) -> tuple[Table, Allocation]:
    layers = list(weight_layers(search.model))
    artifacts = {bits: search.artifact(dict.fromkeys(layers, bits)) for bits in search.bits}
    times = measure.layer_times(artifacts, layers, search.sample)
    return times.seconds, allocate(search.table, times.seconds, search.limit, fixed=times.rest, unit="seconds")


# unit of the budget -> (cost of every layer at every candidate, the choice)
CHOICES = {"bytes": _by_bytes, "seconds": _by_seconds}
