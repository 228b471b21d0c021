"""Bits for a file of given length, from a trained network to the artifact on disk."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import calibrate, digits_net
from torch import nn

from bitspike import engine
from bitspike.compress import (
    MixedBits,
    allocate_file,
    allocation_front,
    allocation_record,
    apply,
    layer_sensitivity,
    weight_bytes,
    weight_layers,
)
from bitspike.compress.mixed import QUANTIZERS
from bitspike.data import DataBundle
from bitspike.deploy import compile, exact_model, integer_logits
from bitspike.errors import ConfigError
from bitspike.measure import model_size

BITS = (1, 2, 4, 8)


@pytest.fixture(scope="module")
def network(digits: DataBundle) -> nn.Module:
    torch.manual_seed(0)
    model = digits_net(digits.spec, widths=(8, "P", 12, 10), T=2)
    return calibrate(model, torch.from_numpy(digits.train.inputs[:64]))


def built(network: nn.Module, bits: dict[str, int], quantizer: str = "rescaw-max") -> nn.Module:
    return apply(copy.deepcopy(network), MixedBits(bits, quantizer=quantizer)).eval()


def test_costs_are_what_the_size_report_counts(network: nn.Module) -> None:
    costs = weight_bytes(network, BITS)
    for bits in BITS:
        rows = model_size(apply(copy.deepcopy(network), MixedBits(default=bits))).rows
        assert {row.name: row.bytes for row in rows if row.kind == "weight"} == {n: costs[n][bits] for n in costs}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_the_file_is_within_the_budget_and_computes_the_network(
    network: nn.Module, digits: DataBundle, tmp_path: Path, quantizer: str
) -> None:
    samples = digits.train.inputs[:2]
    tried: list[int] = []

    def file_bytes(bits: dict[str, int]) -> int:
        tried.append(len(compile(built(network, bits, quantizer), samples).to_bytes()))
        return tried[-1]

    losses = layer_sensitivity(network, [torch.from_numpy(digits.train.inputs[:32])], BITS, quantizer).table
    costs = weight_bytes(network, BITS)
    smallest, largest = (file_bytes(dict.fromkeys(weight_layers(network), b)) for b in (BITS[0], BITS[-1]))
    for budget in (smallest, (2 * smallest + largest) // 3, (smallest + largest) // 2, largest + 100):
        tried.clear()
        found = allocate_file(losses, costs, budget, file_bytes)
        model = built(network, found.bits, quantizer)
        length = compile(model, samples).save(tmp_path / "model.bspk")
        assert length == (tmp_path / "model.bspk").stat().st_size == found.cost <= budget
        assert len(tried) <= 4
        loaded = engine.load(tmp_path / "model.bspk")
        test = digits.test.inputs[:20]
        assert (loaded.run(test) == integer_logits(exact_model(model), torch.from_numpy(test))).all()
    with pytest.raises(ConfigError, match=f"budget is {smallest - 1:,} bytes, accepted: {smallest:,} bytes or more"):
        allocate_file(losses, costs, smallest - 1, file_bytes)


LOSSES = {name: {1: 4.0, 2: 2.0, 4: 1.0} for name in "ab"}
COSTS = {name: {1: 10.0, 2: 20.0, 4: 40.0} for name in "ab"}
OVERHEADS: dict[str, Callable[[int], int]] = {  # of the sum of bits
    "constant": lambda bits: 7,
    "growing": lambda bits: 5 + 3 * bits,
    "shrinking": lambda bits: 40 - 3 * bits,
    "huge-at-once": lambda bits: 5 if bits == 2 else 300,
}


@pytest.mark.parametrize("overhead", OVERHEADS)
@pytest.mark.parametrize("budget", [47, 60, 90, 100, 200])
def test_overheads_that_depend_on_the_bits_are_met_by_measuring_again(overhead: str, budget: int) -> None:
    def file_bytes(bits: dict[str, int]) -> int:
        return int(sum(COSTS[name][b] for name, b in bits.items())) + OVERHEADS[overhead](sum(bits.values()))

    smallest = file_bytes({"a": 1, "b": 1})
    if smallest > budget:
        with pytest.raises(ConfigError, match=f"accepted: {smallest} bytes or more"):
            allocate_file(LOSSES, COSTS, budget, file_bytes)
        return
    found = allocate_file(LOSSES, COSTS, budget, file_bytes)
    assert file_bytes(found.bits) == found.cost <= budget
    assert found.fixed == OVERHEADS[overhead](sum(found.bits.values()))
    if overhead == "constant":
        choices = [{"a": a, "b": b} for a in (1, 2, 4) for b in (1, 2, 4)]
        affordable = [bits for bits in choices if file_bytes(bits) <= budget]
        assert found.predicted == min(sum(LOSSES[name][b] for name, b in bits.items()) for bits in affordable)


def test_tables_of_different_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="costs name a, b, accepted: a"):
        allocate_file({"a": LOSSES["a"]}, COSTS, 100, lambda bits: 0)


def test_the_record_is_json_and_adds_up(network: nn.Module, digits: DataBundle) -> None:
    sensitivity = layer_sensitivity(network, [torch.from_numpy(digits.train.inputs[:16])], BITS)
    costs = weight_bytes(network, BITS)
    front = allocation_front(sensitivity.table, costs, 5, fixed=100.0)
    record = allocation_record(sensitivity, costs, front[2], front)
    assert json.loads(json.dumps(record)) == record
    assert [row["name"] for row in record["layers"]] == list(weight_layers(network))
    assert sum(row["cost"] for row in record["layers"]) + record["fixed"] == record["chosen"]["cost"] == front[2].cost
    assert sum(row["sensitivity"] for row in record["layers"]) == pytest.approx(record["chosen"]["predicted"])
    assert len(record["front"]) == len(front) and record["front"][2] == record["chosen"]
    assert record["forward_passes"] == 1 + 4 * len(costs) and record["unit"] == "bytes"
