"""Images one column per step, for any neuron by name; what has no integer form ends without an artifact."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike import learn, recipes
from bitspike.cli.runs import figures, summary
from bitspike.errors import ConfigError, LoweringError
from bitspike.neurons import MaskedPSN
from bitspike.recipes.registry import get_recipe
from bitspike.recipes.setup import load_data

TINY = ["model.channels=4", "model.hidden=8", "data.train_samples=128"]


def run(folder: Path, *settings: str, name: str = "digits", resume: bool = False) -> dict[str, Any]:
    config = recipes.load_config("sequential", name, [*TINY, "stages.0.train.epochs=2", *settings])
    return get_recipe("sequential").run(config, folder, resume=resume, latency_budget_s=0.0)


def test_columns_are_the_same_images_with_the_same_labels() -> None:
    config = recipes.load_config("sequential", "digits", TINY)
    whole = load_data(dataclasses.replace(config, data=dataclasses.replace(config.data, present="whole")))
    columns = load_data(config)
    assert (columns.spec.shape, columns.spec.time_steps) == ((1, 8, 1), 8)
    for left, right in (
        (whole.train, columns.train),
        (whole.validation, columns.validation),
        (whole.test, columns.test),
    ):
        np.testing.assert_array_equal(left.labels, right.labels)
        np.testing.assert_array_equal(left.inputs, right.inputs[..., 0].transpose(0, 2, 3, 1))


@pytest.mark.parametrize("neuron", ["psn", "nasn", {"name": "sliding_psn", "order": 3}], ids=str)
def test_a_run_without_an_artifact_keeps_weights_figures_and_report(neuron: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = run(folder, f"model.neuron={json.dumps(neuron)}")
    assert list(result["accuracy"]) == ["full precision"] and 0 <= result["accuracy"]["full precision"] <= 1
    assert len(result["firing_rates"]["full precision"]) == 3
    assert not (folder / "model.bspk").exists() and "artifact_bytes" not in result
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result))
    assert "<html" in (folder / "report.html").read_text()
    assert ("artifact", "none, the configuration has no exact stage") in figures(result, folder)
    assert summary(result, folder)["artifact"] is None
    with pytest.raises(LoweringError, match=r"'features.2' is a ColumnPool"):
        recipes.restore(folder)


def test_weights_that_are_kept_are_those_that_were_measured(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = run(folder)
    recipe, config = recipes.RunDirectory(folder).config()
    bundle = load_data(config)
    model = recipes.build_model(config, bundle.spec)
    learn.load_weights(folder / "model.safetensors", model)
    assert recipe == "sequential"
    assert learn.evaluate(model, bundle.test).accuracy == result["accuracy"]["full precision"]


def test_masks_open_in_the_first_training_and_stay_closed_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(MaskedPSN, "set_progress", _recorded(seen))
    stage = {"name": "full-precision", "train": {"epochs": 5, "batch_size": 64}}
    later = {"name": "again", "train": {"epochs": 2, "batch_size": 64}}
    run(
        tmp_path / "run", f"stages={json.dumps([stage, later])}", "stages.0.train.epochs=5", 'model.neuron="masked_psn"'
    )
    changes = [value for value, before in zip(seen, [None, *seen], strict=False) if value != before]
    assert changes == [1.0, 0.0, 1.0]  # as it is built; the first epoch; all others


def _recorded(seen: list[float]) -> Any:
    original = MaskedPSN.set_progress

    def set_progress(self: MaskedPSN, progress: float) -> None:
        seen.append(progress)
        original(self, progress)

    return set_progress


def test_the_strided_network_deploys_without_a_differing_bit(tmp_path: Path) -> None:
    result = run(tmp_path / "run", "stages.1.train.epochs=1", "exact.epochs=1", name="digits-deployed")
    assert result["differing_bits"] == 0 and result["artifact"]["input_shape"] == [8, 1, 8, 1]
    assert result["accuracy"]["engine"] == result["accuracy"]["exact"]
    *_, exact = recipes.restore(tmp_path / "run")
    assert exact.encoding.time_steps == 8


def test_what_cannot_be_lowered_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match="is a PSN: only LIF with a power-of-two leak is exact"):
        run(tmp_path / "run", 'model.neuron="psn"', name="digits-deployed")
    assert not (tmp_path / "run").exists()


def test_a_run_of_before_a_setting_existed_is_continued(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run(folder)
    values = json.loads((folder / "config.json").read_text())
    del values["data"]["split_seed"], values["stages"][0]["propagate"]
    (folder / "config.json").write_text(json.dumps(values))
    assert run(folder, resume=True)["accuracy"] == first["accuracy"]
    with pytest.raises(ConfigError, match=r"begun with other settings \(model\)"):
        run(folder, "model.hidden=9", resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.present=rows"], "data.present is 'rows', accepted: whole, columns"),
        (["stages.0.objective=median"], "objective is 'median', accepted: every-step, mean-logits"),
    ],
)
def test_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipes.load_config("sequential", "digits", settings)


def test_a_sequence_has_no_columns() -> None:
    from bitspike.recipes.setup import in_columns

    columns = load_data(recipes.load_config("sequential", "digits", TINY))
    with pytest.raises(ConfigError, match="accepted for digits, whose samples are frames: whole"):
        in_columns(columns)
