"""Distillation: losses that compare a network with frozen teachers, on outputs and on features.

The loss is a sum of terms, plain data; heads and features are named by the module that gives them. As the self-ensemble
view of spiking networks has it (arXiv 2508.12609), every time step's logits are a member of an ensemble: terms compare
each step with the teacher, or the mean over steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..neurons import FiringRate
from .distill_terms import (
    DISTANCES,
    STEPS,
    TARGETS,
    FeatureTerm,
    LabelTerm,
    LogitTerm,
    logits_per_step,
    teacher_features,
    teacher_logits,
)
from .loss import Objective, time_mean_cross_entropy
from .record import record_outputs

__all__ = ["Distillation", "Distiller", "attach_projections", "remove_projections"]

PROJECTIONS = "distillation_projections"


@dataclass(frozen=True)
class Distillation:
    """The terms that are added. The default learns from the teacher's soft outputs alone, at every step.

    labels: cross-entropies with the true labels. logits, features: comparisons with a teacher.
    """

    labels: tuple[LabelTerm, ...] = ()
    logits: tuple[LogitTerm, ...] = (LogitTerm(),)
    features: tuple[FeatureTerm, ...] = ()

    def __post_init__(self) -> None:
        if not (self.labels or self.logits or self.features):
            raise ConfigError("a distillation without terms has no loss, accepted: labels, logits or features")

    @property
    def teachers(self) -> int:
        """How many teachers the terms speak of."""
        return 1 + max((term.teacher for term in self.comparisons), default=-1)

    @property
    def comparisons(self) -> list[LogitTerm | FeatureTerm]:
        """The terms with a teacher."""
        return [*self.logits, *self.features]


class Distiller:
    """The objective of ``config`` with its ``teachers``: any modules from samples to logits (N, classes) or (T, N, classes).

    Teachers see the student's batch, mixed and augmented as it is, in evaluation mode and without gradients, once per
    batch. ``also`` is an objective added as it is, e.g. spike regulation.
    Raises ConfigError where terms speak of more teachers than there are.
    """

    def __init__(self, config: Distillation, *teachers: nn.Module, also: Objective | None = None) -> None:
        if len(teachers) < config.teachers:
            raise ConfigError(f"the terms need {config.teachers} teachers, {len(teachers)} given")
        self.config = config
        self.teachers = teachers
        self.also = also

    @contextmanager
    def batch(self, model: nn.Module, inputs: Tensor) -> Iterator[Objective]:
        """The batch's loss: the teachers are asked at once, the student's features are recorded until the end."""
        if any(teacher is model for teacher in self.teachers):
            raise ConfigError("the student is its own teacher; give a frozen copy")
        answers = self.answers(inputs)
        projections = _projections(self.config, model)
        with record_outputs(model, _student_names(self.config)) as outputs:
            yield _BatchLoss(self.config, answers, outputs, projections, self.also)

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> list[dict[str, Tensor]]:
        """Per teacher: what its named modules give for ``inputs``, and its output under the name ""."""
        answers = []
        for index, teacher in enumerate(self.teachers):
            teacher.to(inputs.device).eval()
            names = {t.teacher_head for t in self.config.logits if t.teacher == index} | {
                t.teacher_layer for t in self.config.features if t.teacher == index
            }
            with record_outputs(teacher, names - {""}) as outputs:
                result = teacher(inputs)
            answers.append(outputs | {"": result})
        return answers


@dataclass
class _BatchLoss:
    """The objective of one batch, called with all steps, or with one step at a time."""

    config: Distillation
    answers: list[dict[str, Tensor]]  # of the teachers
    outputs: dict[str, Tensor]  # of the student's modules, newest call
    projections: list[nn.Module]  # one per feature
    also: Objective | None
    calls: int = 0

    def __call__(self, logits: Tensor, targets: Tensor, rates: Sequence[FiringRate]) -> Tensor:
        self.calls += 1
        if self.calls > 1 and any(t.steps == "mean" for t in [*self.config.labels, *self.config.comparisons]):
            raise ConfigError("a term on the mean over steps needs the whole sequence; step by step, use steps 'each'")
        parts = [] if self.also is None else [self.also(logits, targets, rates)]
        parts += [self._labels(term, logits, targets) for term in self.config.labels]
        parts += [self._logits(term, logits) for term in self.config.logits]
        parts += [self._features(t, p) for t, p in zip(self.config.features, self.projections, strict=True)]
        return torch.stack(parts).sum()

    def _head(self, name: str, logits: Tensor) -> Tensor:
        return logits_per_step(name, self.outputs[name] if name else logits)

    def _labels(self, term: LabelTerm, logits: Tensor, targets: Tensor) -> Tensor:
        student = STEPS[term.steps](self._head(term.head, logits))
        return term.weight * time_mean_cross_entropy(student, targets, term.label_smoothing)

    def _logits(self, term: LogitTerm, logits: Tensor) -> Tensor:
        student = STEPS[term.steps](self._head(term.head, logits))
        teacher = teacher_logits(term, self.answers[term.teacher][term.teacher_head], student)
        return term.weight * TARGETS[term.targets](student, teacher, term.temperature)

    def _features(self, term: FeatureTerm, projection: nn.Module) -> Tensor:
        recorded = self.outputs[term.student]
        if torch.is_grad_enabled() and not recorded.requires_grad:
            raise ConfigError(
                f"nothing is learned from feature {term.student!r}, which has no gradient, accepted: modules behind trained "
                "parameters whose activations are stored"
            )
        student = projection(recorded)
        teacher = teacher_features(term, self.answers[term.teacher][term.teacher_layer], student)
        return term.weight * DISTANCES[term.distance](STEPS[term.steps](student), teacher)


class ChannelProjection(nn.Module):
    """A linear map of the channels: (T, N, C, ...) to (T, N, M, ...)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(2, -1).to(self.layer.weight.dtype)
        projected: Tensor = F.linear(rows, self.layer.weight).movedim(-1, 2)
        return projected


@torch.no_grad()
def attach_projections(model: nn.Module, distiller: Distiller, samples: Tensor) -> nn.Module:
    """Give ``model`` the learned projections that ``distiller``'s features ask for, as part of it, and return it.

    So they are trained and checkpointed with it. ``samples``, a batch, tell the channels. Attach after compressing, and
    call :func:`remove_projections` before measuring or lowering.
    """
    answers = distiller.answers(samples)
    modes = {module: module.training for module in model.modules()}
    with record_outputs(model, _student_names(distiller.config)) as outputs:
        model.eval()(samples)
    for module, training in modes.items():
        module.training = training
    projections = nn.ModuleList()
    for term in distiller.config.features:
        if term.projection:
            student = outputs[term.student]
            axis = 2 - student.dim()  # of channels, counted from the end: teachers may have no time
            channels = answers[term.teacher][term.teacher_layer].shape[axis]
            projections.append(ChannelProjection(student.shape[2], channels).to(student))
    model.add_module(PROJECTIONS, projections)
    return model


def remove_projections(model: nn.Module) -> nn.Module:
    """Take the projections of :func:`attach_projections` away, in place."""
    if hasattr(model, PROJECTIONS):
        delattr(model, PROJECTIONS)
    return model


def _student_names(config: Distillation) -> set[str]:
    heads = {t.head for t in config.labels} | {t.head for t in config.logits}
    return (heads | {t.student for t in config.features}) - {""}


def _projections(config: Distillation, model: nn.Module) -> list[nn.Module]:
    """One module per feature term."""
    attached = list(getattr(model, PROJECTIONS, ()))
    wanted = sum(term.projection for term in config.features)
    if len(attached) != wanted:
        raise ConfigError(
            f"the terms need {wanted} projections, the model has {len(attached)}: attach_projections adds them"
        )
    learned = iter(attached)
    return [next(learned) if term.projection else nn.Identity() for term in config.features]
