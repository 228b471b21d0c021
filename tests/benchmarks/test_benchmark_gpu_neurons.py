"""The GPU benchmark, as far as a machine without a GPU can tell: what it counts, how it judges, how it refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gpu_neurons
import gpu_runners
from gpu_runners import Case

CPU = torch.device("cpu")


def once(call: Callable[[], Any]) -> float:
    call()
    return 1e-3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    command = [sys.executable, str(gpu_neurons.__file__), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "no GPU that torch can use is here; these figures need one\n"


@pytest.mark.parametrize(
    ("neuron", "steps", "dtype", "phase", "per_feature"),
    [
        ("lif", 4, torch.float32, "inference", 2 * 4 * 4),
        ("lif", 4, torch.float32, "forward", 2 * 4 * 4 + 1),
        ("plif", 20, torch.float16, "backward", 3 * 20 * 2 + 3 + 2 * 4),
        ("sliding_psn", 20, torch.bfloat16, "backward", 3 * 20 * 2),
    ],
)
def test_traffic_is_every_tensor_once(
    neuron: str, steps: int, dtype: torch.dtype, phase: str, per_feature: int
) -> None:
    assert Case(neuron, steps, 1000, dtype).traffic(phase) == 1000 * per_feature


@pytest.mark.parametrize("neuron", gpu_runners.NEURONS)
def test_a_row_holds_every_phase_and_the_spikes_agree(neuron: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gpu_runners.RUNNERS, "compiled")
    monkeypatch.setitem(gpu_runners.RUNNERS, "spikingjelly", gpu_runners.eager)
    case = Case(neuron, 5, 40, torch.float32)
    row = gpu_neurons.measure(case, once, CPU, 1e9)
    assert row["seconds"].keys() == gpu_runners.RUNNERS.keys() and not row["left_out"]
    assert row["differing_spikes"] == 0 and row["speedup"] == 1
    assert row["share"]["backward"] == pytest.approx(case.traffic("backward") / 1e-3 / 1e9)
    assert gpu_neurons.line(row).startswith(neuron)


def test_what_cannot_run_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_runners, "find_spec", lambda name: None)
    row = gpu_neurons.measure(Case("lif", 64, 8, torch.float32), once, CPU, 1e9)
    assert row["left_out"] == {
        "compiled": "not compiled above 16 steps",
        "spikingjelly": "spikingjelly is not installed",
    }
    assert "speedup" not in row and "-" in gpu_neurons.line(row)


def test_verdicts_take_the_worst_row() -> None:
    rows = [
        {"share": {"forward": 0.9, "backward": 0.7}, "speedup": 2.0, "differing_spikes": 0},
        {"share": {"forward": 0.8, "backward": 0.85}, "differing_spikes": 3},
    ]
    verdicts = gpu_neurons.verdicts(rows)
    assert verdicts["share"]["worst"] == 0.7 and verdicts["speedup_over_spikingjelly"]["worst"] == 2.0
    assert verdicts["differing_spikes"] == 3


def test_copied_bytes_are_counted_twice() -> None:
    assert gpu_neurons.copy_bandwidth(once, CPU, size=1000) == 2e6
