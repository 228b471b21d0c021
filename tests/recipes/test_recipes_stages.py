"""Recipes in stages: methods and training in any order, one artifact at the end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitspike import compress, deploy, engine, recipes
from bitspike.errors import ConfigError
from bitspike.learn import Distillation, LogitTerm
from bitspike.recipes.registry import get_recipe
from bitspike.recipes.stages import Stage, StagesConfig

SHORT = [
    "stages="
    + json.dumps(
        [
            {"name": "full-precision", "train": {"epochs": 1}},
            {
                "name": "quantized",
                "start": "fresh",
                "apply": [{"type": "QPSNN", "version": 1, "weight_bits": 2, "edge_bits": 8}],
                "train": {"epochs": 1},
            },
            {
                "name": "pruned",
                "apply": [{"type": "Prune", "version": 1, "ratio": 0.5, "score": "svs"}],
                "train": {"epochs": 1, "optimizer": "adamw", "learning_rate": 1e-3},
            },
        ]
    ),
    "exact.epochs=0",
    'model.widths=[8, "P", 10, "P", 6]',
    "calibration_batches=2",
    "calibration_size=32",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("stages") / "run"
    config = recipes.load_config("qp-snn", "digits", SHORT)
    return run, get_recipe("qp-snn").run(config, run, latency_budget_s=0.0)


def staged_configs() -> list[tuple[str, str]]:
    names = [recipe.name for recipe in recipes.list_recipes() if recipe.config_type is StagesConfig]
    return [(name, shipped) for name in names for shipped in recipes.shipped_configs(name)]


@pytest.mark.parametrize(("recipe", "name"), staged_configs())
def test_shipped_configurations_load_and_their_methods_exist(recipe: str, name: str) -> None:
    config = recipes.load_config(recipe, name)
    assert name.startswith(config.data.name)
    assert config.exact is None or any(stage.methods() for stage in config.stages)


def test_a_run_is_exact_and_reports_every_stage(finished: tuple[Path, dict[str, Any]]) -> None:
    run, result = finished
    assert result["differing_bits"] == 0
    assert list(result["accuracy"]) == ["full precision", "quantized", "pruned", "exact", "engine"]
    assert result["accuracy"]["exact"] == result["accuracy"]["engine"]
    assert {name: len(records) for name, records in result["history"].items()} == {
        "full-precision": 1,
        "quantized": 1,
        "pruned": 1,
        "exact": 0,
    }
    assert json.loads((run / "result.json").read_text())["method"] == "qp-snn"


def test_a_pruned_run_restores(finished: tuple[Path, dict[str, Any]]) -> None:
    run, _ = finished
    recipe, _, bundle, exact = recipes.restore(run)
    assert recipe == "qp-snn"
    kept = [m for m in compress.applied(exact.source) if isinstance(m, compress.KeepChannels)]
    assert len(kept) == 1 and [len(indices) for indices in kept[0].channels.values()] == [4, 5]
    again = deploy.integer_logits(exact, torch.from_numpy(bundle.test.inputs))
    np.testing.assert_array_equal(again, engine.load(run / "model.bspk").run(bundle.test.inputs))


def test_resume_in_the_last_stage_gives_the_same_file(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    whole, _ = finished
    config = recipes.load_config("qp-snn", "digits", SHORT)
    parts = tmp_path / "parts"
    recipes.RunDirectory(parts).begin("qp-snn", config, resume=False)
    for name in ("full-precision", "quantized"):  # the run was stopped here
        for path in sorted((whole / name).rglob("*")):
            target = parts / name / path.relative_to(whole / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                target.write_bytes(path.read_bytes())
    get_recipe("qp-snn").run(config, parts, resume=True, latency_budget_s=0.0)
    assert (parts / "model.bspk").read_bytes() == (whole / "model.bspk").read_bytes()


def test_stages_see_different_batches_and_start_where_they_say(tmp_path: Path) -> None:
    stages = [
        {"name": "first", "train": {"epochs": 0}},
        {"name": "second", "train": {"epochs": 1}},
        {"name": "again", "start": "first", "apply": [{"type": "QPSNN", "version": 1, "edge_bits": 8}]},
    ]
    settings = [f"stages={json.dumps(stages)}", "exact.epochs=0", 'model.widths=[4, "P", 4, "P"]']
    config = recipes.load_config("qp-snn", "digits", settings)
    get_recipe("compress").run(config, tmp_path / "run", latency_budget_s=0.0)
    *_, exact = recipes.restore(tmp_path / "run")
    fresh = recipes.build_model(config, recipes.load_data(config).spec)
    left = exact.source.features[0].currents[0].layer.parametrizations.weight.original
    assert torch.equal(left, fresh.features[0].currents[0].layer.weight)


@pytest.mark.parametrize("recipe", ["lats", "sei-bwsnn"])
def test_the_other_recipes_run_and_restore(recipe: str, tmp_path: Path) -> None:
    whole = recipes.load_config(recipe, "digits")
    fewer = [f"stages.{i}.train.epochs=1" for i, stage in enumerate(whole.stages) if stage.train is not None]
    config = recipes.load_config(recipe, "digits", [*fewer, "exact.epochs=0", "calibration_batches=1"])
    result = get_recipe(recipe).run(config, tmp_path / "run", latency_budget_s=0.0)
    assert result["differing_bits"] == 0
    assert ("sparse" in result) == (recipe == "lats")
    *_, bundle, exact = recipes.restore(tmp_path / "run")
    again = deploy.integer_logits(exact, torch.from_numpy(bundle.test.inputs))
    np.testing.assert_array_equal(again, engine.load(tmp_path / "run" / "model.bspk").run(bundle.test.inputs))


def test_a_threshold_rises_to_its_end_and_survivors_can_start_anew(tmp_path: Path) -> None:
    pruning = {"type": "SoftThresholdPruning", "version": 1, "final_threshold": 0.5, "schedule": "lats"}
    stages = [
        {"name": "mask", "apply": [pruning], "train": {"epochs": 2, "batch_size": 64}},
        {"name": "survivors", "apply": [{"type": "FreezeMask", "version": 1}], "rewind": True},
        {"name": "quantized", "apply": [{"type": "MixedBits", "version": 1, "default": 8, "quantizer": "symmetric"}]},
    ]
    settings = [f"stages={json.dumps(stages)}", "exact.epochs=0", 'model.widths=[8, "P", 8, "P"]']
    config = recipes.load_config("lats", "digits", settings)
    result = get_recipe("lats").run(config, tmp_path / "run", latency_budget_s=0.0)
    assert result["sparse"]["zeros"] > 0.2 * result["sparse"]["weights"] and result["differing_bits"] == 0
    *_, exact = recipes.restore(tmp_path / "run")
    weight = exact.source.features[0].currents[0].layer.parametrizations.weight
    fresh = recipes.build_model(config, recipes.load_data(config).spec).features[0].currents[0].layer.weight
    assert torch.equal(weight.original, fresh * weight[0].mask)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"teacher": "a"}, "needs distill and teacher together"),
        ({"propagate": "backwards"}, "'backwards', accepted: whole, per-step"),
        ({"teacher": "b", "distill": Distillation(logits=(LogitTerm(teacher=1),))}, "distils from one teacher"),
    ],
)
def test_stages_that_make_no_sense(stage: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Stage("a", **stage)


def test_a_teacher_comes_first() -> None:
    config = recipes.load_config("sei-bwsnn", "digits")
    with pytest.raises(ConfigError, match="learns from 'full-precision', accepted: none"):
        dataclasses.replace(config, stages=config.stages[1:])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "stages is empty"),
        ((Stage("a"), Stage("a")), "'a' is used twice"),
        ((Stage("a", start="b"), Stage("b")), "starts from 'b', accepted: previous, fresh"),
    ],
)
def test_stages_that_cannot_be_run(stages: tuple[Stage, ...], message: str) -> None:
    config = recipes.load_config("qp-snn", "digits")
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config, stages=stages)


@pytest.mark.parametrize("name", ["exact", "a/b", ""])
def test_stage_names_are_folder_names(name: str) -> None:
    with pytest.raises(ConfigError, match="stage name"):
        Stage(name)


def test_a_stage_names_its_unknown_method() -> None:
    with pytest.raises(ConfigError, match=r"'Shrink' is unknown, accepted: .*QPSNN"):
        Stage("a", apply=({"type": "Shrink", "version": 1},))
