"""Soft-threshold pruning as a method: what is attached, how the threshold rises, and its deployment."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import calibrate, close, logits_of, small_images, small_model
from torch import nn

from bitspike import deploy, engine
from bitspike.compress import (
    QSNN,
    MixedBits,
    PowerOfTwoMembrane,
    SoftThreshold,
    SoftThresholdPruning,
    apply,
    config_from_json,
    config_to_json,
    sparsity,
    threshold_driver,
    weight_layers,
)
from bitspike.errors import ConfigError
from bitspike.measure import model_size
from bitspike.models import list_models
from bitspike.neurons import Neuron
from bitspike.ops import quantizer_input, soft_threshold, weight_quantizer


def thresholds(model: nn.Module) -> list[SoftThreshold]:
    return [m for m in model.modules() if isinstance(m, SoftThreshold)]


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("first, last", [(False, False), (True, False), (False, True), (True, True)])
def test_every_weight_gets_a_threshold_but_the_edges_kept_dense(name: str, first: bool, last: bool) -> None:
    model, samples = small_model(name).eval(), small_images(name, 2)
    before = logits_of(model, samples)
    apply(model, SoftThresholdPruning(0.1, keep_first=first, keep_last=last))
    layers = list(weight_layers(model).values())
    attached = [hasattr(layer, "parametrizations") for layer in layers]
    assert attached == [not first, *[True] * (len(layers) - 2), not last]
    assert all(t.threshold == 0 and t.steps == 0 for t in thresholds(model))
    assert torch.equal(logits_of(model, samples), before), "training starts from the dense network"


def test_constant_mode_starts_from_the_same_network_at_the_final_threshold() -> None:
    model, samples = small_model("vggsnn").double().eval(), small_images("vggsnn", 3)
    dense = copy.deepcopy(model)
    apply(model, SoftThresholdPruning(0.3, "constant"))
    for layer, plain in zip(weight_layers(model).values(), weight_layers(dense).values(), strict=True):
        theta = layer.parametrizations["weight"].original
        close(layer.weight, plain.weight)
        close(theta, plain.weight.sign() * (plain.weight.abs() + 0.3))
    assert {t.threshold.item() for t in thresholds(model)} == {0.3}
    close(logits_of(model, samples), logits_of(dense, samples))


def test_thresholded_layers_are_ordinary_layers_with_thresholded_weights() -> None:
    """Convolutions and linear layers over time need no change; the threshold acts once per forward, not per step."""
    model, samples = small_model("resnet19", T=3), small_images("resnet19", 4)
    plain = copy.deepcopy(model)
    apply(model, SoftThresholdPruning(0.2))
    calls: list[int] = []
    for module in thresholds(model):
        module.threshold.fill_(0.05)
        module.register_forward_hook(lambda *_: calls.append(1))
    for layer in weight_layers(plain).values():
        layer.weight.data = soft_threshold(layer.weight.data, 0.05)
    outputs = []
    for net in (model.train(), plain.train()):
        outputs.append(net(samples))
        outputs[-1].square().sum().backward()
    assert len(calls) == len(thresholds(model)) and torch.equal(*outputs) and sparsity(model).ratio > 0.1
    for ours, theirs in zip(weight_layers(model).values(), weight_layers(plain).values(), strict=True):
        gradient = ours.parametrizations["weight"].original.grad
        assert torch.equal(gradient, theirs.weight.grad) and gradient[ours.weight == 0].any(), "pruned weights too"


BAD = {
    "negative": ({"final_threshold": -0.1}, "final_threshold is -0.1, accepted: 0 or more"),
    "nan": ({"final_threshold": float("nan")}, "final_threshold is nan"),
    "schedule": ({"schedule": "cubic"}, "schedule is 'cubic', accepted: lats, s-lats, pgh, linear, constant"),
    "no-beta": ({"schedule": "pgh"}, "beta is None, accepted for schedule 'pgh'"),
    "beta": ({"schedule": "pgh", "beta": 1.5}, "beta is 1.5"),
    "useless": ({"beta": 0.5}, "accepted for schedule 'lats': none"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case: str) -> None:
    values, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        SoftThresholdPruning(**values)


def test_every_field_survives_json() -> None:
    config = SoftThresholdPruning(0.25, "pgh", 0.01, True, True)
    assert config_from_json(config_to_json(config)) == config


REFUSED: dict[str, tuple[Callable[[], nn.Module], object, str]] = {
    "quantized before": (
        lambda: apply(small_model("vggsnn"), MixedBits(default=4, quantizer="symmetric")),
        SoftThresholdPruning(),
        "the threshold acts on real weights; apply it first",
    ),
    "no zero level after": (
        lambda: apply(small_model("vggsnn"), SoftThresholdPruning()),
        QSNN(),
        "weights set to zero would come back",
    ),
    "twice": (
        lambda: apply(small_model("vggsnn"), SoftThresholdPruning()),
        SoftThresholdPruning(),
        "already have a threshold",
    ),
    "nothing left": (lambda: nn.Sequential(nn.Linear(2, 2)), SoftThresholdPruning(keep_last=True), "no convolution"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_combined_is_refused(case: str) -> None:
    build, config, message = REFUSED[case]
    model = build()
    before = str(model)
    with pytest.raises(ConfigError, match=message):
        apply(model, config)
    assert str(model) == before


@pytest.mark.parametrize("schedule, beta", [("lats", None), ("s-lats", None), ("pgh", 0.1), ("linear", None)])
def test_driver_raises_all_thresholds_together_and_stops_at_the_final_one(schedule: str, beta: float | None) -> None:
    config, rates = SoftThresholdPruning(0.2, schedule, beta), [0.1, 0.4, 0.2, 0.1, 0.0]
    model = apply(small_model("vggsnn").double(), config)
    advance, seen = threshold_driver(config, rates), [0.0]
    for rate in [*rates, 0.7, 0.0]:
        advance(model, rate)
        values = {t.threshold.item() for t in thresholds(model)}
        assert len(values) == 1
        seen.append(values.pop())
    assert all(a <= b for a, b in pairwise(seen)) and seen[5:] == [0.2] * 3
    assert {int(t.steps) for t in thresholds(model)} == {7}
    if schedule == "lats":
        assert seen[:6] == pytest.approx([0, 0.025, 0.125, 0.175, 0.2, 0.2])


def test_pruning_may_start_later() -> None:
    config, rates = SoftThresholdPruning(1.0, "linear"), [0.1] * 6
    model = apply(nn.Sequential(nn.Linear(3, 2)), config)
    advance, seen = threshold_driver(config, rates, start_step=2), []
    for rate in rates:
        advance(model, rate)
        seen.append(thresholds(model)[0].threshold.item())
    assert seen == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1])
    with pytest.raises(ConfigError, match="start_step is 6, accepted: 0 to below the 6 planned steps"):
        threshold_driver(config, rates, start_step=6)


def test_driver_refuses_another_learning_rate_and_a_model_without_thresholds() -> None:
    config = SoftThresholdPruning(1.0)
    model = apply(nn.Sequential(nn.Linear(3, 2)), config)
    advance = threshold_driver(config, [0.1, 0.05])
    advance(model, 0.1)
    with pytest.raises(ConfigError, match=r"step 1 used learning rate 0.1, the threshold's plan is 0.05"):
        advance(model, 0.1)
    with pytest.raises(ConfigError, match="apply SoftThresholdPruning first"):
        advance(nn.Linear(2, 2), 0.1)


@pytest.mark.parametrize("bits", [3, 8])
def test_sparse_quantized_network_deploys_without_a_differing_bit(bits: int) -> None:
    model, samples = small_model("vggsnn"), small_images("vggsnn", 6)
    apply(model, SoftThresholdPruning(0.1))
    apply(model, MixedBits(default=bits, quantizer="symmetric"))
    for module in model.modules():
        if isinstance(module, Neuron):
            module.membrane = PowerOfTwoMembrane.covering(5, 1.0)
    threshold_driver(SoftThresholdPruning(0.1), [1.0])(model, 1.0)
    calibrate(model, samples)
    for layer in weight_layers(model).values():
        quantizer, w = weight_quantizer(layer), quantizer_input(layer)
        integers, scale = quantizer.integers(w)
        assert torch.equal(w, soft_threshold(layer.parametrizations["weight"].original, thresholds(model)[0].threshold))
        assert torch.equal(layer.weight, integers * scale)
        assert (integers[w == 0] == 0).all() and 0 < (w == 0).float().mean() < 1
    exact = deploy.exact_model(model)
    artifact = deploy.compile(exact, samples)
    network = engine.load(artifact.to_bytes())
    np.testing.assert_array_equal(network.run(samples.numpy()), deploy.integer_logits(exact, samples))
    result = deploy.reference.run(artifact.graph, samples.numpy())
    np.testing.assert_array_equal(network.run(samples.numpy()), result.logits)
    assert {row.bits for row in model_size(model).rows if row.kind == "weight"} == {bits}
    stored = [node.weight for node in artifact.graph.nodes if hasattr(node, "weight")]
    assert sum(int((w == 0).sum()) for w in stored) == sparsity(model).zeros
