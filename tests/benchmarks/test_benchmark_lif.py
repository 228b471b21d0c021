"""The benchmark of the LIF kernels: its rivals compute the same neuron, its bars are judged by the figures of one shape."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import lif_kernels
import lif_rivals

from bitspike.neurons import LIF


def test_the_plain_loop_is_the_same_neuron() -> None:
    current = 0.6 + torch.randint(-16, 17, (6, 500)) / 4  # no sum falls on the threshold
    expected = LIF(0.5, decay_input=True)(current)
    assert torch.equal(lif_rivals.plain_loop(current), expected) and 0.05 < expected.mean() < 0.95


def test_kept_bytes_count_every_memory_once() -> None:
    current = torch.randn(4, 100)
    assert lif_kernels.kept(LIF(0.5, decay_input=True), current) == 4 * current.numel()
    assert lif_kernels.kept(lif_rivals.plain_loop, current) == 8 * current.numel()


def column(ours: float, steps: int) -> dict[str, Any]:
    def timing(seconds: float) -> dict[str, float]:
        return {"median_s": seconds}

    both = {
        "bitspike": timing(ours),
        "spikingjelly": timing(10.0),
        "norse": timing(12.0),
        "torch.compile loop": timing(1.4),
    }
    forward = {"bitspike": timing(1.0), "copy": timing(0.5)}
    return {"steps": steps, "features": 1 << 18, "threads": 1, "forward": forward, "both": both}


@pytest.mark.parametrize(
    "ours, words", [(0.9, ["met", "met", "met", "met"]), (1.5, ["missed", "missed", "met", "met"])]
)
def test_bars(ours: float, words: list[str]) -> None:
    lines = lif_kernels.bars([column(ours, 16), column(16 * ours, 256)])
    assert [line.split(": ")[-1] for line in lines if line] == words
    assert lif_kernels.bars([column(ours, 4)]) == []
