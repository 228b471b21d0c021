"""Distillation: every term by hand, teachers left alone, any head and feature, exact resumption."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from helpers import close, images, small_images, small_model
from torch import Tensor, nn

from bitspike.errors import ConfigError
from bitspike.learn import (
    Distillation,
    Distiller,
    FeatureTerm,
    LabelTerm,
    LogitTerm,
    SpikeRegulation,
    attach_projections,
    remove_projections,
    time_mean_cross_entropy,
)
from bitspike.learn.distill_terms import cosine_distance
from bitspike.options import build

SHAPE, LABELS = (2, 6, 5), torch.tensor([0, 3, 1, 1])


class Dense(nn.Module):
    """Samples (N, 2, 6, 5) to features (N, 6, 3, 2), two heads and logits (N, 5); with ``steps``, all (T, N, ...)."""

    def __init__(self, seed: int, steps: int = 0, channels: int = 6) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.steps, self.calls, self.gain = steps, 0, nn.Parameter(torch.linspace(0.5, 2, max(steps, 1)))
        self.body = nn.Sequential(nn.Conv2d(2, channels, 2, stride=2, bias=False), nn.BatchNorm2d(channels))
        self.shape = nn.Identity()
        self.main, self.other = nn.Linear(channels, 5), nn.Linear(channels, 5)
        self.noise = nn.Dropout(0.5)

    def forward(self, samples: Tensor) -> Tensor:
        self.calls += 1
        x = self.body(samples.to(self.main.weight.dtype) / 255)
        x = x * self.gain.view(-1, 1, 1, 1, 1) if self.steps else x
        features = self.noise(self.shape(x)).mean((-2, -1))
        return (self.main(features) + self.other(features)) / 2


def pair(teacher_steps: int, channels: int = 6) -> tuple[Dense, Dense, Tensor]:
    """(student of 3 steps, teacher, samples), in double precision."""
    return Dense(1, 3).double().eval(), Dense(2, teacher_steps, channels).double(), images(4, SHAPE)


def loss_of(config: Distillation, student: nn.Module, samples: Tensor, *teachers: nn.Module, **options) -> Tensor:
    with Distiller(config, *teachers, **options).batch(student, samples) as objective:
        return objective(student(samples), LABELS, [])


def answers(teacher: Dense, samples: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's prediction and features (N, ...), averaged over its steps."""
    features: list[Tensor] = []
    hook = teacher.shape.register_forward_hook(lambda _m, _i, out: features.append(out.detach()))
    with torch.no_grad():
        logits = teacher.eval()(samples)
    hook.remove()
    return (logits.mean(0), features[0].mean(0)) if teacher.steps else (logits, features[0])


def kl(p: Tensor, q: Tensor) -> float:
    return sum(a * (a / b).log() for a, b in zip(p, q, strict=True)).item()


@pytest.mark.parametrize("steps", ["each", "mean"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("teacher_steps", [0, 2], ids=["static-teacher", "spiking-teacher"])
def test_soft_targets_by_hand(teacher_steps: int, temperature: float, steps: str) -> None:
    student, teacher, samples = pair(teacher_steps)
    wanted = (answers(teacher, samples)[0] / temperature).softmax(-1)
    logits = student(samples).detach()
    members = logits if steps == "each" else logits.mean(0)[None]
    terms = [kl(wanted[n], (step[n] / temperature).softmax(-1)) for step in members for n in range(4)]
    config = Distillation(logits=(LogitTerm(0.3, temperature=temperature, steps=steps),))
    expected = 0.3 * temperature**2 * sum(terms) / len(terms)
    close(loss_of(config, student, samples, teacher), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("steps", ["each", "mean"])
def test_hard_targets_are_the_teachers_decisions(steps: str) -> None:
    student, teacher, samples = pair(0)
    decisions = answers(teacher, samples)[0].argmax(-1)
    logits = student(samples)
    expected = time_mean_cross_entropy(logits if steps == "each" else logits.mean(0)[None], decisions)
    config = Distillation(logits=(LogitTerm(targets="hard", steps=steps),))
    close(loss_of(config, student, samples, teacher), expected)


@pytest.mark.parametrize("steps", ["each", "mean"])
@pytest.mark.parametrize("distance", ["mse", "cosine"])
@pytest.mark.parametrize("teacher_steps", [0, 2], ids=["static-teacher", "spiking-teacher"])
def test_features_by_hand(teacher_steps: int, distance: str, steps: str) -> None:
    student, teacher, samples = pair(teacher_steps)
    wanted = answers(teacher, samples)[1]
    own = student.shape(student.body(samples.double() / 255) * student.gain.view(-1, 1, 1, 1, 1)).detach()
    members = own if steps == "each" else own.mean(0)[None]
    if distance == "mse":
        expected = torch.stack([(m - wanted).square().mean() for m in members]).mean()
    else:
        cosines = [(m[n] * wanted[n]).sum() / m[n].norm() / wanted[n].norm() for m in members for n in range(4)]
        expected = 1 - torch.stack(cosines).mean()
    config = Distillation(logits=(), features=(FeatureTerm("shape", "shape", 1.0, 0, distance, steps),))
    close(loss_of(config, student, samples, teacher), expected)


def test_cosine_of_silence_has_a_bounded_gradient() -> None:
    silent = torch.zeros(1, 1, 8, dtype=torch.float64, requires_grad=True)
    loss = cosine_distance(silent, torch.ones(1, 8, dtype=torch.float64))
    loss.backward()
    assert loss.item() == 1 and silent.grad.norm() <= 100


def test_two_heads_two_teachers() -> None:
    """(1 - a) CE(head 0, labels) + a CE(head 1, decision of the second teacher): each head sees its own term only."""
    student, other, samples = pair(0)
    teacher = Dense(7).double()
    config = Distillation((LabelTerm(0.4, "main", 0.1),), (LogitTerm(0.6, "other", 1, "main", "hard"),))
    assert config.teachers == 2
    loss = loss_of(config, student, samples, other, teacher)
    features = student.body(samples.double() / 255) * student.gain.view(-1, 1, 1, 1, 1)
    pooled = features.mean((-2, -1))
    with torch.no_grad():
        decisions = teacher.main(teacher.body(samples.double() / 255).mean((-2, -1))).argmax(-1)
    expected = 0.4 * time_mean_cross_entropy(student.main(pooled), LABELS, 0.1) + 0.6 * time_mean_cross_entropy(
        student.other(pooled), decisions
    )
    close(loss, expected)
    for weight, silent in ((0.0, "main"), (1.0, "other")):
        student.zero_grad()
        terms = Distillation((LabelTerm(weight, "main"),), (LogitTerm(1 - weight, "other"),))
        loss_of(terms, student, samples, other).backward()
        gradients = {name: getattr(student, name).weight.grad.abs().max() for name in ("main", "other")}
        assert gradients.pop(silent) == 0 and all(g > 0 for g in gradients.values())


def test_a_head_without_time_is_one_step() -> None:
    student, teacher, samples = Dense(1).double().eval(), Dense(2).double(), images(4, SHAPE)
    wanted = answers(teacher, samples)[0].softmax(-1)
    with torch.no_grad():
        expected = torch.tensor([kl(wanted[n], row.softmax(-1)) for n, row in enumerate(student(samples))]).mean()
    close(loss_of(Distillation(), student, samples, teacher), expected)


def test_another_objective_is_added_as_it_is() -> None:
    student, teacher, samples = pair(0)
    with torch.no_grad():
        plain = loss_of(Distillation(), student, samples, teacher)
        both = loss_of(Distillation(), student, samples, teacher, also=SpikeRegulation(0.0))
        close(both - plain, time_mean_cross_entropy(student(samples), LABELS))


@pytest.mark.parametrize("propagation", ["sequence", "per-step"])
def test_teachers_are_asked_once_and_left_as_they_were(propagation: str) -> None:
    teacher, samples = Dense(2).train(), small_images("sei_resnet", 4)[..., :6, :5]
    student = small_model("sei_resnet", input_shape=SHAPE, T=3)
    state = {key: v.clone() for key, v in teacher.state_dict().items()}
    with Distiller(Distillation(), teacher).batch(student, samples) as objective:
        steps = student(samples)
        losses = [objective(s, LABELS, []) for s in (steps[:, None] if propagation == "per-step" else [steps])]
    sum(losses).backward()
    assert teacher.calls == 1 and not teacher.training
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(v, state[key]) for key, v in teacher.state_dict().items())
    assert not any(m._forward_hooks for m in [*teacher.modules(), *student.modules()])


def test_steps_one_by_one_add_up_to_the_sequence() -> None:
    student, teacher, samples = pair(2)
    config = Distillation((LabelTerm(0.2),), (LogitTerm(temperature=2.0),))
    with torch.no_grad(), Distiller(config, teacher).batch(student, samples) as objective:
        logits = student(samples)
        close(torch.stack([objective(s[None], LABELS, []) for s in logits]).mean(), objective(logits, LABELS, []))


def test_time_mean_terms_refuse_single_steps() -> None:
    student, teacher, samples = pair(0)
    config = Distillation(logits=(LogitTerm(steps="mean"),))
    with Distiller(config, teacher).batch(student, samples) as objective:
        objective(student(samples)[:1], LABELS, [])
        with pytest.raises(ConfigError, match="mean over steps needs the whole sequence"):
            objective(student(samples)[1:2], LABELS, [])


def test_projection_is_learned_with_the_student_and_taken_away() -> None:
    student, teacher, samples = pair(0, channels=4)
    features = (FeatureTerm("shape", "shape", projection=True), FeatureTerm("main", "main"))
    distiller = Distiller(Distillation(logits=(), features=features), teacher)
    before = set(student.state_dict())
    attach_projections(student.train(), distiller, samples)
    assert student.training and teacher.calls == 1
    (projection,) = student.distillation_projections
    assert projection.layer.weight.shape == (4, 6)
    with distiller.batch(student, samples) as objective:
        loss = objective(student(samples), LABELS, [])
    loss.backward()
    assert projection.layer.weight.grad.abs().max() > 0
    x = torch.randn(3, 2, 6, 5, 2, dtype=torch.float64)
    close(projection(x), torch.einsum("tnchw,mc->tnmhw", x, projection.layer.weight))
    assert set(remove_projections(student).state_dict()) == before
    with pytest.raises(ConfigError, match="need 1 projections, the model has 0: attach_projections"):
        loss_of(distiller.config, student, samples, teacher)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_low_precision_is_compared_in_single_precision(dtype: torch.dtype) -> None:
    student, teacher, samples = pair(0)
    config = Distillation(features=(FeatureTerm("shape", "shape"),))
    loss = loss_of(config, student.to(dtype), samples, teacher.to(dtype))
    assert loss.dtype == torch.float32 and loss.isfinite()


CONFIGS = [
    Distillation(),
    Distillation((LabelTerm(0.5, "a", 0.1),), (LogitTerm(0.5, "b", 1, "", "hard"), LogitTerm(temperature=4.0))),
    Distillation((), (), (FeatureTerm("x", "y", 2.0, 0, "cosine", "mean", True),)),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["default", "heads", "features"])
def test_json_round_trip(config: Distillation) -> None:
    assert build(Distillation, json.loads(json.dumps(dataclasses.asdict(config))), "distillation") == config
