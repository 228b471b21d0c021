"""The BESTformer recipe: a teacher of its own network, then the binary student, and its artifact."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from bitspike import compress, learn, recipes
from bitspike.errors import ConfigError
from bitspike.learn import TrainConfig
from bitspike.models import create_model
from bitspike.recipes.registry import get_recipe
from bitspike.recipes.stages import Stage

SHORT = [
    "stages.0.train.epochs=1",
    "stages.1.train.epochs=1",
    "stages.1.train.batch_size=64",
    "exact.epochs=1",
    "data.train_samples=128",
    'model={"name": "bestformer", "T": 2, "dim": 16, "depth": 1, "heads": 2, "patch": 2, "mlp_ratio": 1}',
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("bestformer") / "run"
    config = recipes.load_config("bestformer", "digits", SHORT)
    return run, get_recipe("bestformer").run(config, run)


def test_teacher_and_student_are_trained_and_deployed(finished: tuple[Path, dict[str, Any]]) -> None:
    run, result = finished
    assert list(result["history"]) == ["teacher", "binary", "exact"]
    assert list(result["accuracy"]) == ["teacher", "binary", "exact", "engine"]
    assert result["differing_bits"] == 0 and result["accuracy"]["engine"] == result["accuracy"]["exact"]
    assert result["artifact_bytes"] < result["size"]["fp32_bytes"] / 3
    assert (run / "model.safetensors").exists() and json.loads((run / "result.json").read_text())[
        "method"
    ] == "bestformer"
    assert recipes.RunDirectory(run).read_methods()[0] == compress.StandardizedBinary(8)


def test_a_resumed_run_gives_the_same_weights(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    whole, _ = finished
    config = recipes.load_config("bestformer", "digits", SHORT)
    parts = tmp_path / "parts"
    recipes.RunDirectory(parts).begin("bestformer", config, resume=False)
    for path in sorted((whole / "teacher").rglob("*")):  # the run was stopped after its teacher
        target = parts / "teacher" / path.relative_to(whole / "teacher")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
    get_recipe("bestformer").run(config, parts, resume=True)
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", recipes.shipped_configs("bestformer"))
def test_shipped_configurations_use_the_released_loss(name: str) -> None:
    config = recipes.load_config("bestformer", name)
    student = config.stages[-1]
    assert student.distill == learn.two_head_distillation(0.5, label_smoothing=0.1)
    assert student.methods() == [compress.StandardizedBinary(8)]
    options = dict(config.model)
    assert create_model(options.pop("name"), **options).body.activations == "stored"


TRAIN = TrainConfig(epochs=1)
NETWORK = {"name": "convnet"}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"network": {"name": "mlp"}, "train": TRAIN}, "teacher network is 'mlp', accepted: convnet"),
        ({"network": NETWORK}, "trains a network of its own and needs train"),
        ({"network": NETWORK, "train": TRAIN, "rewind": True}, "only trained, not compressed"),
        (
            {"network": NETWORK, "train": TRAIN, "apply": ({"type": "StandardizedBinary", "version": 1},)},
            "only trained, not compressed",
        ),
    ],
)
def test_teachers_stages_that_make_no_sense(stage: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Stage("a", **stage)


def test_a_teacher_neither_ends_a_run_nor_begins_a_network() -> None:
    config = recipes.load_config("bestformer", "digits")
    with pytest.raises(ConfigError, match="the last stage, 'teacher', trains a teacher"):
        dataclasses.replace(config, stages=config.stages[:1])
    student = dataclasses.replace(config.stages[1], start="teacher")
    with pytest.raises(ConfigError, match=r"starts from 'teacher', accepted: previous, fresh$"):
        dataclasses.replace(config, stages=(config.stages[0], student))
