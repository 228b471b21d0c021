"""``bitspike compress``: any methods, or a budget, on a finished run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitspike import engine, recipes
from bitspike.deploy import ir
from bitspike.recipes.registry import get_recipe

SMALL = ["exact.epochs=0", 'model.widths=[8, "P", 10, "P"]', "calibration_batches=1", "calibration_size=64"]
SHORT = ["--set", "stages.0.train.epochs=1", "--threads", "1", "--json"]
METHODS = [
    {"type": "Prune", "version": 1, "ratio": 0.5, "score": "sca"},
    {"type": "MixedBits", "version": 1, "default": 3},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    stages = [{"name": "full-precision", "train": {"epochs": 3}}, {"name": "q", "apply": METHODS[1:]}]
    config = recipes.load_config("qp-snn", "digits", [f"stages={json.dumps(stages)}", *SMALL])
    get_recipe("compress").run(config, folder, latency_budget_s=0.0)
    return folder


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bitspike", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_list_of_methods(run: Path, tmp_path: Path) -> None:
    (tmp_path / "methods.json").write_text(json.dumps(METHODS))
    found = answer(call("compress", run, tmp_path / "methods.json", "--out", tmp_path / "new", *SHORT))
    assert found["differing_bits"] == 0 and set(found["accuracy_of"]) == {"compressed", "exact", "engine"}
    nodes = engine.load(found["artifact"]).graph().nodes
    assert [len(node.bias) for node in nodes if isinstance(node, ir.Lif)] == [4, 10]
    assert {node.bits for node in nodes if isinstance(node, ir.Conv | ir.Linear | ir.Readout)} == {3}
    evaluated = answer(call("eval", tmp_path / "new", "--json"))
    assert evaluated["accuracy"] == evaluated["accuracy_engine"]
    exported = call("export", tmp_path / "new", "-o", tmp_path / "again.bspk")
    assert exported.returncode == 0 and (tmp_path / "again.bspk").read_bytes() == Path(found["artifact"]).read_bytes()


@pytest.mark.parametrize("budget", ["2.5kB", "5ms"])
def test_a_budget(run: Path, tmp_path: Path, budget: str) -> None:
    found = answer(call("compress", run, "--budget", budget, "--out", tmp_path / "new", *SHORT))
    assert found["differing_bits"] == 0
    assert not budget.endswith("kB") or found["artifact_bytes"] <= 2500
    assert "Bits of each layer" in Path(found["report"]).read_text()


REFUSED = {
    "nothing": ([], "give a CONFIG.json, or a --budget"),
    "empty list": ("[]", "empty list"),
    "no json": ("{", "is not JSON"),
    "unknown": ('{"type": "Shrink", "version": 1}', "'Shrink' is unknown, accepted"),
    "not combinable": (
        '[{"type": "QPSNN", "version": 1}, {"type": "BinaryWeights", "version": 1}]',
        "a weight carries one quantizer",
    ),
    "no edges": ('{"type": "QPSNN", "version": 1}', "full precision; attach a quantizer"),
    "budget": (["--budget", "3 parsecs"], "'3 parsecs' is not understood"),
    "tiny budget": (["--budget", "500"], "budget is 500 bytes, accepted: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_message(case: str, run: Path, tmp_path: Path) -> None:
    given, message = REFUSED[case]
    if isinstance(given, str):
        (tmp_path / "config.json").write_text(given)
        given = [str(tmp_path / "config.json")]
    done = call("compress", run, *given, "--out", tmp_path / "new")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert "epoch" not in done.stderr, "it was refused before any training"
