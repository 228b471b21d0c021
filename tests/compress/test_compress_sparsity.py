"""Counting zeros, and the search for the threshold that gives a wanted share of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers import digits_net, small_model
from torch import nn

from bitspike.compress import (
    MixedBits,
    SoftThresholdPruning,
    apply,
    initial_threshold,
    search_threshold,
    sparsity,
    threshold_driver,
    weight_layers,
)
from bitspike.data import DataBundle
from bitspike.errors import ConfigError
from bitspike.learn import Runtime, TrainConfig, Trainer


def test_zeros_are_counted_per_layer_and_over_all_weights() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(5, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        model[0].weight.view(-1)[:6] = 0
        model[1].bias.zero_()
        model[2].weight.zero_()
    report = sparsity(model)
    assert [(layer.name, layer.zeros, layer.weights) for layer in report.layers] == [("0", 6, 18), ("1", 0, 20)]
    assert (report.zeros, report.weights, report.ratio) == (6, 38, 6 / 38) and report.layers[0].ratio == 1 / 3


def test_layers_kept_dense_count_and_so_do_zeros_of_the_quantizer() -> None:
    config = SoftThresholdPruning(0.1, keep_first=True)
    model = apply(small_model("vggsnn"), config)
    threshold_driver(config, [1.0])(model, 1.0)
    real = sparsity(model)
    assert real.weights == sum(layer.weight.numel() for layer in weight_layers(model).values())
    assert real.layers[0].zeros == 0 < real.layers[1].zeros
    quantized = sparsity(apply(model, MixedBits(default=3, quantizer="symmetric")))
    assert all(a.zeros <= b.zeros for a, b in zip(real.layers, quantized.layers, strict=True))
    assert quantized.zeros > real.zeros


@pytest.mark.parametrize("target", [0.01, 0.5, 0.9, 0.999])
def test_initial_threshold_is_the_quantile_of_all_magnitudes(target: float) -> None:
    model = small_model("vggsnn")
    d = initial_threshold(model, target)
    magnitudes = torch.cat([layer.weight.detach().flatten().abs() for layer in weight_layers(model).values()])
    assert (magnitudes <= d).float().mean().item() == pytest.approx(target, abs=1 / len(magnitudes))
    assert d in magnitudes.double()


CURVES: dict[str, Callable[[float], float]] = {
    "smooth": lambda d: 1 - math.exp(-d),
    "steep": lambda d: 1 / (1 + d**-6),
    "steps": lambda d: round((1 - math.exp(-d)) * 200) / 200,
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("target", [0.1, 0.8, 0.97])
@pytest.mark.parametrize("start", [1e-3, 1.0, 100.0])
def test_search_finds_the_threshold_from_anywhere(curve: Callable[[float], float], target: float, start: float) -> None:
    found = search_threshold(curve, target, start=start, max_runs=30)
    assert found.reached and abs(curve(found.threshold) - target) <= 0.01
    assert found.sparsity == curve(found.threshold) and found.tried[0] == (start, curve(start))
    assert len(found.tried) <= 20 and found.tried[-1] == (found.threshold, found.sparsity)


def test_search_stops_and_says_so_where_the_target_cannot_be_reached() -> None:
    found = search_threshold(lambda d: 0.2 if d < 3 else 0.9, 0.5, start=1.0, max_runs=8)
    assert not found.reached and len(found.tried) == 8 and found.sparsity == 0.2


def test_search_runs_once_where_the_start_is_right() -> None:
    assert len(search_threshold(lambda d: 0.5, 0.505, start=2.0).tried) == 1


def test_search_on_short_trainings_reaches_the_target(few_digits: DataBundle) -> None:
    plan = TrainConfig(epochs=2, batch_size=16, learning_rate=0.05, schedule="constant")

    def run(final: float) -> float:
        torch.manual_seed(0)
        config = SoftThresholdPruning(final)
        model = apply(digits_net(few_digits.spec, widths=(6, "P", 8)), config)
        driver = threshold_driver(config, [plan.learning_rate] * 12)
        Trainer(plan, on_step=driver, runtime=Runtime(accelerator="cpu")).fit(model, few_digits)
        return sparsity(model).ratio

    start = initial_threshold(digits_net(few_digits.spec, widths=(6, "P", 8)), 0.7)
    found = search_threshold(run, 0.7, start=start, tolerance=0.02)
    assert found.reached and len(found.tried) <= 6


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "target-0": (lambda: search_threshold(lambda d: d, 0.0, start=1.0), "target_sparsity is 0.0, accepted: above 0"),
    "target-1": (lambda: initial_threshold(nn.Linear(2, 2), 1.0), "target_sparsity is 1.0"),
    "start": (lambda: search_threshold(lambda d: d, 0.5, start=0.0), "start is 0.0, accepted: above 0"),
    "runs": (lambda: search_threshold(lambda d: d, 0.5, start=1.0, max_runs=0), "max_runs 0, accepted"),
    "tolerance": (lambda: search_threshold(lambda d: d, 0.5, start=1.0, tolerance=0.0), "tolerance is 0.0"),
    "no-weights": (lambda: initial_threshold(nn.Identity(), 0.5), "no convolution or linear layer"),
}


@pytest.mark.parametrize("case", BAD)
def test_values_out_of_range_are_refused(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        call()
