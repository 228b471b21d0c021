from __future__ import annotations

import dataclasses

import pytest
from measure_graphs import random_graph, random_samples

from bitspike.deploy import reference
from bitspike.measure import ENERGY_MODELS, LayerOperations, count_operations, estimate_energy
from bitspike.measure.energy import accumulator_bits, add_energy, multiply_energy

FIRST = LayerOperations("first", "mac", 1000, 900.0, 1000, 0, None, 8, 27, 100, 1, 192, 0)
HIDDEN = LayerOperations("hidden", "ac", 40_000, 4000.0, 10_000, 0, 0.1, 1, 576, 500, 4, 800, 0)
NEURONS = LayerOperations("neurons", "neuron", 0, 0.0, 0, 800, 0.1, 4, 1, 0, 4, 0, 800)


def totals(model: int) -> dict[str, float]:
    rows = estimate_energy([FIRST, HIDDEN, NEURONS], [ENERGY_MODELS[model]])
    return {row.network: row.total_j for row in rows}


def test_every_model_names_its_source_and_technology() -> None:
    assert len({m.name for m in ENERGY_MODELS}) == len(ENERGY_MODELS) >= 3
    for model in ENERGY_MODELS:
        assert "ISSCC 2014" in model.source and "45 nm" in model.technology and model.assumption
        with pytest.raises(dataclasses.FrozenInstanceError):
            model.name = "other"  # type: ignore[misc]


def test_the_convention_of_the_field() -> None:
    found = totals(0)
    assert found["spiking"] == pytest.approx((900 * 4.6 + 4000 * 0.9) * 1e-12)
    assert found["non-spiking fp32, one pass"] == pytest.approx(11_000 * 4.6e-12)


def test_bit_widths() -> None:
    assert add_energy(8) == 0.03 and add_energy(32) == pytest.approx(0.1) and add_energy(4) == 0.015
    assert multiply_energy(8, 8) == 0.2 and multiply_energy(8, 1) == pytest.approx(0.025)
    assert accumulator_bits(HIDDEN) == 11  # 576 fits ten bits and a sign
    assert accumulator_bits(FIRST) == (27 * 127 * 255).bit_length() + 1
    assert accumulator_bits(dataclasses.replace(FIRST, odd=True)) == (27 * 255 * 255).bit_length() + 1
    spiking = 900 * (add_energy(accumulator_bits(FIRST)) + 0.2) + 4000 * add_energy(11) + 800 * 4 * 0.1
    found = totals(1)
    assert found["spiking"] == pytest.approx(spiking * 1e-12)
    assert found["non-spiking int8, one pass"] == pytest.approx(11_000 * 0.3e-12)


@pytest.mark.parametrize(
    ("model", "weight_bits", "float_weights"),
    [(2, 900 * 8 + 4000 * 1, 11_000), (3, 100 * 8 * 1 + 500 * 1 * 4, 600)],
    ids=["no reuse", "full reuse"],
)
def test_memory_traffic(model: int, weight_bits: int, float_weights: int) -> None:
    rows = {row.network: row for row in estimate_energy([FIRST, HIDDEN, NEURONS], [ENERGY_MODELS[model]])}
    pixels, spikes, membranes = 192 * 8, 800 + 800, 2 * 800 * 4
    bits = weight_bits + pixels + spikes + membranes
    assert rows["spiking"].memory_j == pytest.approx(bits * 0.3125e-12)
    values = 192 * 8 + 32 * (200 + 200)
    assert rows["non-spiking fp32, one pass"].memory_j == pytest.approx((32 * float_weights + values) * 0.3125e-12)


def test_more_spikes_cost_more() -> None:
    graph = random_graph(0)
    spikes = reference.run(graph, random_samples(graph, 2)).spikes
    quiet = {i: s * 0 for i, s in spikes.items()}
    busy_rows = estimate_energy(count_operations(graph, spikes))
    quiet_rows = estimate_energy(count_operations(graph, quiet))
    for busy, silent in zip(busy_rows, quiet_rows, strict=True):
        if busy.network == "spiking":
            assert busy.compute_j > silent.compute_j > 0
        else:
            assert busy == silent
        assert busy.as_dict()["total_j"] == busy.compute_j + busy.memory_j
