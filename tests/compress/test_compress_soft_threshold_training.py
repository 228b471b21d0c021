"""Soft-threshold pruning in real training runs: its effect on the weights, and resuming."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import digits_net
from torch import Tensor, nn

from bitspike import deploy, engine
from bitspike.compress import (
    MixedBits,
    SoftThreshold,
    SoftThresholdPruning,
    apply,
    sparsity,
    threshold_driver,
    weight_layers,
)
from bitspike.data import DataBundle
from bitspike.learn import Runtime, TrainConfig, Trainer
from bitspike.learn.schedule import learning_rate_factor

PLAN = TrainConfig(epochs=4, batch_size=16, learning_rate=0.1, weight_decay=1e-4, warmup_epochs=0.5)
CPU = Runtime(accelerator="cpu")
Trained = dict[float, tuple[nn.Module, list[dict[str, Tensor]]]]  # by final threshold


def thresholds(model: nn.Module) -> list[SoftThreshold]:
    return [m for m in model.modules() if isinstance(m, SoftThreshold)]


def learning_rates(plan: TrainConfig, samples: int) -> list[float]:
    batches = samples // plan.batch_size
    return [
        plan.learning_rate * learning_rate_factor(epoch + index / batches, plan)
        for epoch in range(plan.epochs)
        for index in range(batches)
    ]


def pruned_net(data: DataBundle, config: SoftThresholdPruning) -> nn.Module:
    torch.manual_seed(0)
    return apply(digits_net(data.spec, widths=(6, "P", 8), T=2), config)


@pytest.fixture(scope="module")
def trained(few_digits: DataBundle) -> Trained:
    """Per final threshold: the trained network, and its weights after every step."""
    runs = {}
    for final in (0.0, 0.05, 0.2, 0.8):
        config = SoftThresholdPruning(final)
        model = pruned_net(few_digits, config)
        advance, weights = threshold_driver(config, learning_rates(PLAN, 96)), []

        def on_step(net: nn.Module, rate: float, model=model, advance=advance, weights=weights) -> None:
            advance(net, rate)
            weights.append({name: layer.weight.detach().clone() for name, layer in weight_layers(model).items()})

        Trainer(PLAN, on_step=on_step, runtime=CPU).fit(model, few_digits)
        runs[final] = (model, weights)
    return runs


def test_training_ends_at_the_final_threshold(trained: Trained) -> None:
    for final, (model, weights) in trained.items():
        assert {t.threshold.item() for t in thresholds(model)} == {torch.tensor(final).item()}
        assert {int(t.steps) for t in thresholds(model)} == {len(weights)} == {24}


def test_final_sparsity_grows_with_the_final_threshold(trained: Trained) -> None:
    ratios = [sparsity(model).ratio for model, _ in trained.values()]
    assert ratios[0] == 0 and ratios == sorted(set(ratios)) and ratios[-1] > 0.9


def test_weights_leave_zero_while_sparsity_rises(trained: Trained) -> None:
    weights = [torch.cat([w.flatten() for w in step.values()]) for step in trained[0.05][1]]
    regrown = sum(int(((a == 0) & (b != 0)).sum()) for a, b in pairwise(weights))
    zeros = [int((w == 0).sum()) for w in weights]
    assert regrown > 0 and zeros[0] < zeros[len(zeros) // 2] < zeros[-1]


class Killed(Exception):
    pass


@pytest.mark.parametrize("schedule, beta", [("lats", None), ("pgh", 0.1)])
def test_a_killed_run_resumes_to_the_same_weights_and_threshold(
    few_digits: DataBundle, tmp_path: Path, schedule: str, beta: float | None
) -> None:
    config, plan = SoftThresholdPruning(0.2, schedule, beta), dataclasses.replace(PLAN, epochs=3)
    advance = threshold_driver(config, learning_rates(plan, 96))

    def kill_in_second_epoch(model: nn.Module, rate: float) -> None:
        advance(model, rate)
        if thresholds(model)[0].steps == 9:
            raise Killed

    whole = pruned_net(few_digits, config)
    Trainer(plan, on_step=advance, runtime=CPU).fit(whole, few_digits)
    with pytest.raises(Killed):
        Trainer(plan, on_step=kill_in_second_epoch, runtime=CPU, directory=tmp_path).fit(
            pruned_net(few_digits, config), few_digits
        )
    resumed = pruned_net(few_digits, config)
    again = threshold_driver(config, learning_rates(plan, 96))
    Trainer(plan, on_step=again, runtime=CPU, directory=tmp_path).fit(resumed, few_digits, resume=True)
    state = whole.state_dict()
    assert state.keys() == resumed.state_dict().keys() and any(key.endswith(".threshold") for key in state)
    assert all(torch.equal(state[key], value) for key, value in resumed.state_dict().items())


def test_threshold_rises_while_training_on_the_deployed_integers(few_digits: DataBundle) -> None:
    config, plan = SoftThresholdPruning(0.1), dataclasses.replace(PLAN, epochs=2, learning_rate=0.02)
    model = apply(pruned_net(few_digits, config), MixedBits(default=6, quantizer="symmetric"))
    exact = deploy.exact_model(model)
    driver = threshold_driver(config, learning_rates(plan, 96))
    Trainer(plan, on_step=driver, runtime=CPU).fit(exact, few_digits)
    assert {t.threshold.item() for t in thresholds(model)} == {torch.tensor(0.1).item()}
    samples = few_digits.test.inputs
    network = engine.load(deploy.compile(exact, samples).to_bytes())
    np.testing.assert_array_equal(network.run(samples), deploy.integer_logits(exact, torch.from_numpy(samples)))
    assert sparsity(model).ratio > 0.2
