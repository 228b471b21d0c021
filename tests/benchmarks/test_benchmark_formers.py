"""The study of small transformers: what its rows are made of, which weights it keeps, and its tables."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import former_study
import former_tables

from bitspike.data import DataBundle
from bitspike.models import create_model
from bitspike.recipes.setup import DataChoice

TINY = {"T": 2, "dim": 16, "depth": 1, "heads": 2, "patch": 2, "mlp_ratio": 1}


def test_every_variant_is_a_network_that_the_study_can_build() -> None:
    for name, options in former_study.VARIANTS.items():
        with torch.device("meta"):
            model = create_model(**options, input_shape=(1, 28, 28))
        gated = any(type(m) in former_study.GATES for m in model.modules())
        assert gated != name.startswith("Spikingformer")


def test_both_ablations_change_one_option() -> None:
    full = former_study.VARIANTS["SNN-ViT, mix"]
    for name, options in former_study.VARIANTS.items():
        if name.startswith("SNN-ViT, ") and options is not full:
            assert len(options) == len(full) + 1 and full.items() <= options.items()


@pytest.mark.parametrize("gate", ["mix", "token"])
def test_a_row_is_what_was_measured(gate: str, few_digits: DataBundle) -> None:
    plan = dataclasses.replace(former_study.PLAN, epochs=2, batch_size=48, warmup_epochs=0, augment=())
    config = former_study.Config(DataChoice("digits"), {"name": "snnvit", "gate": gate, **TINY}, seed=0)
    row = former_study.run(config, plan, few_digits)
    assert len(row["history"]) == 2 and json.loads(json.dumps(row)) == row
    assert row["validation_accuracy"] == max(r["validation_accuracy"] for r in row["history"])
    assert list(row["gate_rates"]) == [f"stages.0.blocks.0.mixer.{'gate' if gate == 'mix' else 'neuron'}"]
    assert row["gate_rates"].items() <= row["layer_rates"].items() and 0 <= row["gate_rate"] <= 1
    assert row["epoch_cpu_s"] > 0 and row["parameters"] > 1000


def test_the_first_of_the_best_epochs_is_kept() -> None:
    model = nn.Linear(1, 1, bias=False)
    best = former_study.Best(model)
    for epoch, accuracy in enumerate([0.2, 0.5, 0.5, 0.1]):
        model.weight.data.fill_(epoch)
        best.see(epoch, {"validation_accuracy": accuracy})
    assert (best.epoch, best.accuracy, best.weights["weight"].item()) == (1, 0.5, 1.0)


def test_rows_of_the_same_plan_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    facts = dict.fromkeys(former_study.FIXED, 1)
    path.write_text(json.dumps(facts | {"rows": [{"variant": "a"}]}))
    result = facts | {"rows": []}
    former_study.resume(result, path)
    assert result["rows"] == [{"variant": "a"}]
    with pytest.raises(SystemExit, match=r"was begun with another plan, test_samples"):
        former_study.resume(facts | {"plan": 2, "test_samples": 3, "rows": []}, path)


def test_tables_show_means_and_paired_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_tables, "RESULT", tmp_path / "none.json")
    assert former_tables.formers_table() == "Not measured."
    rows = [
        {"variant": v, "seed": s, "accuracy": a + s / 100, "firing_rate": 0.1, "gate_rate": g, "parameters": 5}
        for v, a, g in (("SNN-ViT, mix", 0.8, 0.25), ("SNN-ViT, lif", 0.7, 0.5), ("Spikingformer", 0.6, None))
        for s in (0, 1)
    ]
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"rows": [row | {"epoch_cpu_s": 2.0} for row in rows]}))
    monkeypatch.setattr(former_tables, "RESULT", path)
    assert "| SNN-ViT, mix | 2 | 80.50 ± 0.71 % | 10.00 ± 0.00 % | 25.00 ± 0.00 % | 5 | 2.0 |" in (
        former_tables.formers_table()
    )
    claims = former_tables.claims_table()
    assert "| SNN-ViT, mix over SNN-ViT, lif | +10.00 ± 0.00 |" in claims
    assert "| SNN-ViT, mix over SNN-ViT, plain stem |  | +0.50 |" in claims
