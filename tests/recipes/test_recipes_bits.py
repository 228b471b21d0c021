"""Bits per layer under a budget, as a stage of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bitspike import compress, engine, recipes
from bitspike.errors import ConfigError
from bitspike.recipes.bits import BitBudget
from bitspike.recipes.registry import get_recipe

SMALL = ["exact.epochs=0", 'model.widths=[8, "P", 10, "P"]', "calibration_batches=1", "calibration_size=32"]


def run(folder: Path, **bits: Any) -> dict[str, Any]:
    stages = [{"name": "full-precision", "train": {"epochs": 1}}, {"name": "compressed", "bits": bits}]
    config = recipes.load_config("qp-snn", "digits", [f"stages={json.dumps(stages)}", *SMALL])
    return get_recipe("compress").run(config, folder, latency_budget_s=0.0)


def test_the_file_is_within_the_budget_and_exact(tmp_path: Path) -> None:
    result = run(tmp_path / "run", budget="2.6kB", bits=[1, 2, 4, 8])
    assert result["differing_bits"] == 0
    record = result["allocation"]
    assert (tmp_path / "run" / "model.bspk").stat().st_size <= 2600
    assert record["chosen"]["cost"] == pytest.approx(result["artifact_bytes"], abs=64)
    chosen = {row["name"]: row["bits"] for row in record["layers"]}
    assert len(set(chosen.values())) > 1, "the budget is between two uniform widths"
    *_, exact = recipes.restore(tmp_path / "run")
    (mixed,) = [m for m in compress.applied(exact.source) if isinstance(m, compress.MixedBits)]
    assert mixed.bits == chosen
    stored = {
        node.bits for node in engine.load(tmp_path / "run" / "model.bspk").graph().nodes if hasattr(node, "weight")
    }
    assert stored == set(chosen.values())
    assert all(0 <= point["accuracy"] <= 1 for point in [record["chosen"], *record["front"]])
    assert "Bits of each layer" in (tmp_path / "run" / "report.html").read_text()


def test_a_resumed_run_keeps_its_choice(tmp_path: Path) -> None:
    first = run(tmp_path / "run", budget="10s", bits=[2, 8])  # everything fits
    assert {row["bits"] for row in first["allocation"]["layers"]} == {8}
    assert first["allocation"]["unit"] == "seconds"
    record = json.loads((tmp_path / "run" / "compressed" / "compression.json").read_text())
    assert record["allocation"]["seconds"] == first["allocation"]["seconds"]
    (tmp_path / "run" / "result.json").unlink()
    config = recipes.RunDirectory(tmp_path / "run").config()[1]
    again = get_recipe("compress").run(config, tmp_path / "run", resume=True, latency_budget_s=0.0)
    assert again["allocation"] == first["allocation"]


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ({"budget": "100 parsec"}, "not understood"),
        ({"budget": "1kB", "bits": (0,)}, "0, accepted: 1 to 8"),
        ({"budget": "1kB", "bits": ()}, "bits is empty"),
        ({"budget": "1kB", "quantizer": "cubic"}, "'cubic', accepted: rescaw"),
    ],
)
def test_refused(bits: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BitBudget(**bits)


def test_too_small_a_budget_names_the_smallest_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"budget is 500 bytes, accepted: [\d,]+ bytes or more"):
        run(tmp_path / "run", budget="500")
