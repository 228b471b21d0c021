"""Distillation in the Trainer, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import digits_net, small_images, small_model
from torch import nn

from bitspike.compress import BinaryWeights, apply
from bitspike.data import DataBundle
from bitspike.errors import ConfigError
from bitspike.learn import (
    Distillation,
    Distiller,
    FeatureTerm,
    LabelTerm,
    LogitTerm,
    Propagation,
    TrainConfig,
    Trainer,
    attach_projections,
    per_step,
    whole_sequence,
)
from bitspike.neurons import set_temporal_gradient

FEATURES = (FeatureTerm("features.0", "features.0", 0.1, distance="cosine", projection=True),)
CONFIG = Distillation((LabelTerm(0.5),), (LogitTerm(0.5, temperature=2.0),), FEATURES)


class Stop(BaseException):
    pass


def distiller(data: DataBundle) -> Distiller:
    torch.manual_seed(3)
    return Distiller(CONFIG, digits_net(data.spec, widths=(6, "P", 5)))


def student(data: DataBundle, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = apply(digits_net(data.spec, widths=(4, "P", 5)), BinaryWeights())
    return set_temporal_gradient(model, "spatial")


def widened(data: DataBundle, seed: int = 0) -> tuple[nn.Module, Distiller]:
    """A student whose first unit is projected to its teacher's, which is wider."""
    objective, model = distiller(data), student(data, seed)
    return attach_projections(model, objective, torch.from_numpy(data.train.inputs[:2])), objective


def fit(data: DataBundle, directory: Path, propagate: Propagation, *, stop_at: int = -1, seed: int = 0, **options):
    model, objective = widened(data, seed)
    seen = [0]

    def on_step(_model: nn.Module, _rate: float) -> None:
        seen[0] += 1
        if seen[0] == stop_at:
            raise Stop

    config = TrainConfig(epochs=3, batch_size=24, mixup=0.3, augment=("crop1",))
    trainer = Trainer(config, objective=objective, propagate=propagate, on_step=on_step, directory=directory)
    return model, trainer.fit(model, data, **options)


@pytest.mark.parametrize("propagate", [whole_sequence, per_step])
def test_resumed_run_is_the_uninterrupted_one(few_digits: DataBundle, tmp_path: Path, propagate: Propagation) -> None:
    """Interrupted in the second epoch; the projections are resumed with the rest."""
    whole, history = fit(few_digits, tmp_path / "whole", propagate)
    with pytest.raises(Stop):
        fit(few_digits, tmp_path / "parts", propagate, stop_at=6)
    resumed, again = fit(few_digits, tmp_path / "parts", propagate, seed=5, resume=True)
    assert [r["loss"] for r in again] == [r["loss"] for r in history]
    state = resumed.state_dict()
    assert any("distillation_projections" in key for key in state)
    assert all(torch.equal(v, state[key]) for key, v in whole.state_dict().items())


def test_a_student_approaches_its_teacher(few_digits: DataBundle) -> None:
    """With random labels kept out, the distance to the teacher falls."""
    torch.manual_seed(3)
    teacher, model = digits_net(few_digits.spec, widths=(6, "P", 8)), digits_net(few_digits.spec, widths=(6, "P", 8))
    history = Trainer(TrainConfig(epochs=6, batch_size=16), objective=Distiller(Distillation(), teacher)).fit(
        model, few_digits
    )
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_every_precision(few_digits: DataBundle, precision: str) -> None:
    model, objective = widened(few_digits)
    (record,) = Trainer(TrainConfig(epochs=1, batch_size=48, precision=precision), objective=objective).fit(
        model, few_digits
    )
    assert 0 < record["loss"] < 10


TERMS: dict[str, tuple[Callable[[], object], str]] = {
    "no-terms": (lambda: Distillation((), (), ()), "without terms has no loss"),
    "label-weight": (lambda: LabelTerm(-1.0), "weight is -1.0, accepted: 0 or more"),
    "label-smoothing": (lambda: LabelTerm(label_smoothing=1.0), "label_smoothing is 1.0"),
    "logit-weight": (lambda: LogitTerm(float("nan")), "weight is nan"),
    "teacher": (lambda: LogitTerm(teacher=-1), "teacher is -1, accepted: 0 or more"),
    "targets": (lambda: LogitTerm(targets="warm"), "targets is 'warm', accepted: soft, hard"),
    "steps": (lambda: LogitTerm(steps="all"), "steps is 'all', accepted: each, mean"),
    "temperature": (lambda: LogitTerm(temperature=0.0), "temperature is 0.0, accepted: above 0"),
    "hard-temperature": (lambda: LogitTerm(targets="hard", temperature=2.0), "temperature is 2.0.* 1 for hard targets"),
    "distance": (lambda: FeatureTerm("a", "b", distance="l1"), "distance is 'l1', accepted: mse, cosine"),
    "feature-steps": (lambda: FeatureTerm("a", "b", steps="all"), "steps is 'all'"),
    "feature-name": (lambda: FeatureTerm("", "b"), "needs the names"),
    "teachers": (
        lambda: Distiller(Distillation(logits=(LogitTerm(teacher=1),)), nn.Linear(1, 1)),
        "need 2 teachers, 1 given",
    ),
}


@pytest.mark.parametrize("case", TERMS)
def test_bad_terms(case: str) -> None:
    make, message = TERMS[case]
    with pytest.raises(ConfigError, match=message):
        make()


def teacher(**options) -> nn.Module:
    return small_model("vggsnn", seed=1, **options)


BATCHES: dict[str, tuple[Distillation, Callable[[], nn.Module], str]] = {
    "classes": (
        Distillation(),
        lambda: teacher(num_classes=4),
        r"teacher 0 gives logits \(3, 4\), the student \(3, 5\)",
    ),
    "student-name": (
        Distillation(features=(FeatureTerm("x", "features.0"),)),
        teacher,
        "VGGSNN has no module 'x', accepted: .*features.0",
    ),
    "teacher-name": (
        Distillation(logits=(LogitTerm(teacher_head="y"),)),
        teacher,
        "VGGSNN has no module 'y', accepted: .*features.0",
    ),
    "channels": (
        Distillation(features=(FeatureTerm("features.2", "features.0"),)),
        teacher,
        r"'features.0' of teacher 0 gives \(3, 4, 9, 8\) and 'features.2' of the student \(3, 6, 4, 4\) per step",
    ),
    "head": (
        Distillation((LabelTerm(head="features.0"),)),
        teacher,
        r"head 'features.0' gives \(3, 3, 4, 9, 8\), accepted: \(N, classes\) or \(T, N, classes\)",
    ),
}


@pytest.mark.parametrize("case", BATCHES)
def test_what_does_not_fit_is_named(case: str) -> None:
    config, make, message = BATCHES[case]
    model, samples = small_model("vggsnn"), small_images("vggsnn", 3)
    with (
        pytest.raises(ConfigError, match=message),
        Distiller(config, make()).batch(model, samples) as objective,
    ):
        objective(model(samples), torch.tensor([0, 1, 2]), [])


def test_the_student_is_not_its_own_teacher() -> None:
    model = small_model("vggsnn")
    with (
        pytest.raises(ConfigError, match="its own teacher"),
        Distiller(Distillation(), model).batch(model, small_images("vggsnn", 2)),
    ):
        pass
