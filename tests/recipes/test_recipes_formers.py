"""Recipes of spiking transformers: from full precision to low bits to an artifact, by their shipped configurations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bitspike import recipes
from bitspike.data import DataBundle, Split
from bitspike.recipes.registry import get_recipe
from bitspike.recipes.stages import rehearse

FORMERS = ("spikingformer", "qkformer", "snn-vit")
SHORT = [
    "stages.0.train.epochs=1",
    "stages.1.train.epochs=1",
    "exact.epochs=1",
    "data.train_samples=96",
    "model.T=2",
    "model.dim=16",
    "model.heads=2",
    "model.mlp_ratio=1",
]


def test_a_short_run_is_deployed_exactly(tmp_path: Path) -> None:
    config = recipes.load_config("snn-vit", "digits", SHORT)
    result = get_recipe("snn-vit").run(config, tmp_path / "run", latency_budget_s=0.5)
    assert list(result["accuracy"]) == ["full precision", "quantized", "exact", "engine"]
    assert result["differing_bits"] == 0 and result["accuracy"]["exact"] == result["accuracy"]["engine"]
    assert result["attention"], "the report draws it"
    assert (tmp_path / "run" / "model.bspk").stat().st_size == result["artifact_bytes"]


@pytest.mark.parametrize("name", ("bestformer", *FORMERS))
def test_shipped_networks_lower_at_their_full_size(name: str) -> None:
    bundle = recipes.load_data(recipes.load_config(name, "digits"))
    rehearse(recipes.load_config(name, "digits"), bundle)
    grey = Split(np.zeros((4, 1, 28, 28), np.uint8), bundle.train.labels[:4])
    spec = dataclasses.replace(bundle.spec, shape=(1, 28, 28))
    rehearse(recipes.load_config(name, "fashion-mnist"), DataBundle(spec, grey, grey, grey))
