"""The study of neurons: what its rows are made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import digits_net, subset
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import neurons as neuron_study
import study

from bitspike.data import DataBundle
from bitspike.learn import TrainConfig
from bitspike.neurons import Neuron


def test_lif_without_reset_is_the_serial_one() -> None:
    neuron = neuron_study.lif_without_reset(6).double()
    current = 3 * torch.randn(6, 50, dtype=torch.float64)
    membrane, expected = torch.zeros(50, dtype=torch.float64), []
    for x in current:
        membrane = membrane + (x - membrane) / 2
        expected.append((membrane > 1).double())
    assert torch.equal(neuron(current), torch.stack(expected))
    assert not any(p.requires_grad for p in neuron.parameters())


@pytest.mark.parametrize("time_steps", [8, 28])
def test_every_variant_takes_the_sequence(time_steps: int) -> None:
    made = {name: make() for name, make in neuron_study.variants(time_steps).items()}
    assert all(neuron(torch.randn(time_steps, 3)).shape == (time_steps, 3) for neuron in made.values())
    assert {name for name in made if name.startswith("sliding")} >= {"sliding PSN, k = 1", "sliding PSN, k = 8"}
    assert all(isinstance(neuron, Neuron) for neuron in made.values())


def test_stored_bytes_are_those_of_the_steps_not_of_the_weights(digits: DataBundle) -> None:
    bundle = subset(digits, 64, 8)
    stored = [neuron_study.stored_bytes(digits_net(bundle.spec, T=T), bundle, 16) for T in (2, 4, 8)]
    assert stored[2] - stored[1] == pytest.approx(2 * (stored[1] - stored[0]), rel=0.1)
    assert neuron_study.stored_bytes(digits_net(bundle.spec, T=2), bundle, 32) == pytest.approx(2 * stored[0], rel=0.01)


def test_a_result_grows_by_rows_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results" / "study.json"
    result = study.begin(plan=1, search={})
    study.add(result, path, {"variant": "a", "seed": 0})
    assert json.loads(capsys.readouterr().err) == {"variant": "a", "seed": 0}
    again = study.begin(plan=1, search={})
    neuron_study.resume(again, path)
    assert again["rows"] == [{"variant": "a", "seed": 0}]
    assert list(json.loads(path.read_text())) == ["command", "torch", "plan", "search", "rows"]
    with pytest.raises(SystemExit, match=r"other settings \(plan\)"):
        neuron_study.resume(study.begin(plan=2, search={}), path)


def test_validation_chooses_the_plan_once(digits: DataBundle, tmp_path: Path) -> None:
    bundle = subset(digits, 64, 32)
    plans = {name: TrainConfig(epochs=1, batch_size=32, learning_rate=rate) for name, rate in (("a", 0.0), ("b", 0.1))}
    tried: list[float] = []

    def run(plan: TrainConfig) -> tuple[nn.Module, Any]:
        tried.append(plan.learning_rate)
        clock = neuron_study.Clock()
        model = study.train(digits_net(bundle.spec), bundle, plan, 0, on_epoch=clock.epoch, on_step=clock.step)
        return model, clock

    result = study.begin(search={})
    for seed in (0, 1):
        neuron_study.add(result, tmp_path / "study.json", "n", seed, run, plans, bundle)
    scores = result["search"]["n"]["validation_accuracy"]
    chosen = result["search"]["n"]["chosen"]
    assert scores[chosen] == max(scores.values()) and len(tried) == 3
    assert [row["plan"] for row in result["rows"]] == [chosen] * 2
    assert all(row["epoch_cpu_s"] > 0 and row["neuron_parameters"] == 0 for row in result["rows"])
