"""The Q-SNN recipe and its shipped configurations."""

import json

import numpy as np
import pytest
import torch

from bitspike import deploy, learn, recipes
from bitspike.errors import BitspikeError, ConfigError
from bitspike.recipes import build_model, load_data, restore
from bitspike.recipes.registry import get_recipe

SHORT = ["train.epochs=1", "exact.epochs=1", "baseline=null", 'model.widths=[8, "P", 9, "P"]', "model.T=2"]


@pytest.mark.parametrize("name", recipes.shipped_configs("q-snn"))
def test_shipped_configurations_load_and_round_trip(name):
    config = recipes.load_config("q-snn", name)
    assert config.data.name in name or name.startswith(config.data.name)
    assert config.compress.weight_bits == 1


@pytest.mark.parametrize("rule", ["released", "power-of-two"])
def test_a_short_run_is_exact_and_restores(rule, tmp_path):
    config = recipes.load_config("q-snn", "digits", [*SHORT, f"compress.membrane={rule}"])
    run = tmp_path / "run"
    result = get_recipe("q-snn").run(config, run, latency_budget_s=0.0)
    assert result["differing_bits"] == 0
    assert result["accuracy"]["exact"] == result["accuracy"]["engine"]
    assert json.loads((run / "result.json").read_text())["seed"] == 0
    _, _, bundle, exact = restore(run)
    again = deploy.integer_logits(exact, torch.from_numpy(bundle.test.inputs))
    from bitspike import engine

    np.testing.assert_array_equal(again, engine.load(run / "model.bspk").run(bundle.test.inputs))


def test_resume_after_the_first_stage_gives_the_same_file(tmp_path):
    config = recipes.load_config("q-snn", "digits", SHORT)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    get_recipe("q-snn").run(config, whole, latency_budget_s=0.0)
    bundle = load_data(config)
    folder = recipes.RunDirectory(parts)
    folder.begin("q-snn", config, resume=False)
    # the interrupted run: the quantized stage is finished, nothing after it
    source, target = whole / "quantized", parts / "quantized"
    target.mkdir()
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        copy.mkdir() if path.is_dir() else copy.write_bytes(path.read_bytes())
    get_recipe("q-snn").run(config, parts, resume=True, latency_budget_s=0.0)
    assert (parts / "model.bspk").read_bytes() == (whole / "model.bspk").read_bytes()
    assert len(bundle.test) == 360


def test_a_folder_in_use_is_not_overwritten(tmp_path):
    config = recipes.load_config("q-snn", "digits", SHORT)
    folder = recipes.RunDirectory(tmp_path)
    folder.begin("q-snn", config, resume=False)
    folder.begin("q-snn", config, resume=False)  # nothing was trained yet, so nothing is lost
    folder.stage("quantized").mkdir()
    (folder.stage("quantized") / "latest.json").write_text("{}")
    with pytest.raises(ConfigError, match="--resume"):
        folder.begin("q-snn", config, resume=False)
    folder.begin("q-snn", config, resume=True)
    other = recipes.load_config("q-snn", "digits", [*SHORT, "train.learning_rate=0.5"])
    with pytest.raises(ConfigError, match="train"):
        folder.begin("q-snn", other, resume=True)


def test_same_seed_same_weights_other_seed_others():
    config = recipes.load_config("q-snn", "digits", SHORT)
    spec = load_data(config).spec
    first, again = (build_model(config, spec).state_dict() for _ in range(2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    other = build_model(recipes.load_config("q-snn", "digits", [*SHORT, "seed=1"]), spec).state_dict()
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_initial_weights_are_used(tmp_path):
    config = recipes.load_config("q-snn", "digits", [*SHORT, "train.epochs=0", "exact.epochs=0"])
    bundle = load_data(config)
    model = build_model(config, bundle.spec)
    with torch.no_grad():
        model.readout.layer.bias.fill_(0.25)
    learn.save_weights(tmp_path / "start.safetensors", model)
    run = tmp_path / "run"
    get_recipe("q-snn").run(config, run, initial_weights=tmp_path / "start.safetensors", latency_budget_s=0.0)
    *_, exact = restore(run)
    assert exact.source.readout.layer.bias.detach().eq(0.25).all()


@pytest.mark.parametrize("content", ["", "[]", '{"recipe": "nope"}', '{"recipe": "q-snn", "version": 9}'])
def test_a_broken_config_file_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BitspikeError):
        recipes.RunDirectory(tmp_path).config()
