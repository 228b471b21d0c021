"""Training by the self-ensemble view on small digits: the members, their mean, and the signs of binary weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import subset
from torch import Tensor, nn

from bitspike.compress import BinaryWeights, StraightThroughSign, apply
from bitspike.data import DataBundle
from bitspike.learn import Distillation, Distiller, TrainConfig, Trainer
from bitspike.models import create_model
from bitspike.ops import quantizer_input, weight_quantizer

Trained = tuple[nn.Module, list[float]]


def signs(model: nn.Module) -> Tensor:
    latents = [quantizer_input(m) for m in model.modules() if isinstance(weight_quantizer(m), StraightThroughSign)]
    return torch.cat([w.detach().flatten() >= 0 for w in latents])


def network(data: DataBundle) -> nn.Module:
    spec = data.spec
    return create_model(
        "sei_resnet",
        T=4,
        width=12,
        units=(2, 2),
        input_shape=spec.shape,
        zero_point=spec.zero_point,
        input_scale=spec.scale,
    )


@pytest.fixture(scope="module")
def trained(digits: DataBundle) -> Trained:
    """A full-precision teacher, and its binary-weight student distilled from scratch; with the share of flips per step."""
    data = subset(digits, 960, 0)
    torch.manual_seed(0)
    teacher = network(data)
    Trainer(TrainConfig(epochs=3, batch_size=32, learning_rate=0.3), seed=0).fit(teacher, data)
    student, flips, before = apply(network(data), BinaryWeights()), [], []

    def count(model: nn.Module, rate: float) -> None:
        now = signs(model)
        if before:
            flips.append((now != before.pop()).float().mean().item())
        before.append(now)

    config = TrainConfig(epochs=4, batch_size=32, learning_rate=0.3, weight_decay=0.0)
    Trainer(config, objective=Distiller(Distillation(), teacher), on_step=count, seed=1).fit(student, data)
    return student.eval(), flips


@pytest.mark.slow
def test_the_mean_over_steps_beats_the_mean_member(trained: Trained, digits: DataBundle) -> None:
    model, _ = trained
    test = digits.test
    with torch.no_grad():
        logits = model(torch.from_numpy(test.inputs))
    labels = torch.from_numpy(test.labels)
    members = [(step.argmax(-1) == labels).float().mean().item() for step in logits]
    ensemble = (logits.mean(0).argmax(-1) == labels).float().mean().item()
    assert ensemble > 0.6, "a network that has not learned shows nothing"
    assert ensemble >= np.mean(members)


@pytest.mark.slow
def test_fewer_and_fewer_signs_flip(trained: Trained) -> None:
    _, flips = trained
    first, middle, last = (np.mean(part) for part in np.array_split(flips, 3))
    assert first > middle > last and first > 0
