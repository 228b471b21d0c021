"""The engine benchmark: its graphs are what it says, and its bars are judged by the worst figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import engine_bars
import engine_groups
import engine_tables
import layer_rivals
import networks
import one_pass

from bitspike import _native, engine
from bitspike.deploy import artifact, ir, reference


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.3])
def test_a_layer_fires_as_asked_and_is_what_the_two_graphs_differ_by(rate: float) -> None:
    layer = networks.Layer(12, 20, 3, 6)
    with_it, without = networks.one_layer(layer, 4, rate)
    samples = networks.noise_frames(layer.size, 4, seed=3)
    left, right = (reference.run(graph, samples) for graph in (with_it, without))
    assert np.array_equal(left.spikes[2], right.spikes[2])
    assert left.spikes[2].mean() == pytest.approx(rate, rel=0.35)
    front, rest = [ir.Input, ir.Conv, ir.Lif], [ir.OrPool, ir.Readout]
    assert [type(node) for node in with_it.nodes] == [*front, ir.Conv, ir.Lif, *rest]
    assert [type(node) for node in without.nodes] == [*front, *rest]
    assert engine_groups.macs(with_it) - engine_groups.macs(without) == pytest.approx(
        layer.macs * networks.TIME_STEPS, rel=0.01
    )


def test_pruned_networks_are_smaller_and_valid() -> None:
    dense, half = (networks.network("digits", 4, keep=keep) for keep in (1.0, 0.5))
    assert [n.weight.shape[0] for n in half.nodes if isinstance(n, ir.Conv)] == [16, 32, 32]
    assert len(artifact.encode(half)) < 0.5 * len(artifact.encode(dense))
    assert engine.load(artifact.encode(half)).run(networks.smooth_images((1, 8, 8), 2)).shape == (2, 10)


def test_the_one_pass_network_has_the_same_shape() -> None:
    graph = networks.network("vgg8", 1, keep=0.25)
    relu = one_pass.relu_network(graph)
    convolutions = [m for m in relu if isinstance(m, torch.nn.Conv2d)]
    assert [tuple(m.weight.shape) for m in convolutions] == [
        n.weight.shape for n in graph.nodes if isinstance(n, ir.Conv)
    ]
    out = relu(torch.from_numpy(networks.smooth_images((3, 32, 32), 2)).float())
    assert out.shape == (2, 10) and out.isfinite().all() and out.std() > 0


def timing(seconds: float) -> dict[str, Any]:
    return {"median_s": seconds, "rounds": 5, "dropped": 0, "disturbed": False}


def test_bars_take_the_worst_batch_and_the_best_setting() -> None:
    def group(batch: int, own: float) -> dict[str, Any]:
        rivals = {"torch fp32": 0.025, "torch fp32, channels last": 0.021, "ONNX Runtime int8": 0.0061}
        return {
            "time_steps": 4,
            "batch": batch,
            "times": {name: timing(s) for name, s in ({"bitspike 1-bit": own} | rivals).items()},
            "file_bytes": {"bitspike 1-bit": 10, "ONNX Runtime fp32": 300},
        }

    found = {bar.name: bar for bar in engine_bars.bars({"network": [group(1, 0.001), group(16, 0.0011)]})}
    torch_bar = found["network, 1-bit, times torch fp32 (bar)"]
    assert torch_bar.value == pytest.approx(0.021 / 0.0011) and torch_bar.where == "batch 16" and not torch_bar.met
    floor = found["network, 1-bit, times torch fp32 (floor)"]
    assert floor.value == torch_bar.value and floor.needed < torch_bar.needed and floor.met
    assert found["artifact, 1-bit, times smaller than ONNX fp32 (floor)"].met
    assert not [name for name in found if "OpenVINO" in name or "4-bit" in name]  # not measured, not judged


def test_short_networks_have_no_speed_up_bar_at_batch_1() -> None:
    def group(batch: int, alone: float) -> dict[str, Any]:
        return {
            "batch": batch,
            "times": {"bitspike 1-bit": timing(alone / 2), "bitspike 1-bit, 1 thread": timing(alone)},
        }

    judged = engine_bars.bars({"threads": [group(1, 5e-4), group(1, 2e-3), group(16, 5e-4)]})
    assert [(bar.where, bar.needed, bar.value, bar.met) for bar in judged] == [
        ("batch 1", 1.6, 2.0, True),
        ("batch 16", 1.9, 2.0, True),
    ]


def test_differing_bits_of_all_sections_are_counted() -> None:
    counts = [{"compared": 5, "differing": 0}, {"compared": 7, "differing": 2}]
    result = {"layers": [{"agreement": counts[0]}], "network": [{"agreement": counts[1]}], "memory": [{"name": "x"}]}
    assert engine_tables.differing(result) == (2, 12)


def test_peaks_are_measured_and_others_are_refused() -> None:
    for level in engine.levels():
        for mix in _native.peak_mixes(level):
            assert _native.peak(level, mix) > 0
    with pytest.raises(ValueError, match="accepted here"):
        _native.peak("portable", "table")


def test_attention_fires_as_calibrated_and_torch_computes_the_same() -> None:
    """The builder's own attention set the thresholds, so a wrong product would show in the firing rate."""
    with_it, _ = networks.attention(12, 3, 4, 0.3)
    found = reference.run(with_it, networks.noise_frames(4, networks.CALIBRATION_SAMPLES, seed=1))
    index = next(i for i, node in enumerate(with_it.nodes) if isinstance(node, ir.Attention))
    assert found.spikes[index + 1].mean() == pytest.approx(with_it.rates[index + 1])
    query, key, value = (found.spikes[i].reshape(-1, 12, 4, 4) for i in ir.sources(with_it.nodes[index]))
    left, right = (call().numpy() for call in layer_rivals.attention_calls(12, 3, [query, key, value]).values())
    assert np.array_equal(left, right)
    q, k, v = (x.reshape(-1, 3, 4, 16).astype(int) for x in (query, key, value))
    expected = np.einsum("bhin,bhim,bhjm->bhjn", q, k, v).reshape(left.shape)
    assert np.array_equal(left, expected)
