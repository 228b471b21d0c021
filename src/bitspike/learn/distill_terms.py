"""The terms of a distillation loss, and the functions they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError

__all__ = [
    "DISTANCES",
    "STEPS",
    "TARGETS",
    "FeatureTerm",
    "LabelTerm",
    "LogitTerm",
    "logits_per_step",
    "teacher_features",
    "teacher_logits",
]

SMALLEST_NORM = 1e-2  # a feature without any spike has no direction; below this its cosine fades instead of jumping


def soft_targets(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """temperature² · KL(softmax(teacher / temperature) ‖ softmax(logits / temperature)), mean over steps and samples.

    logits (T, N, classes), teacher (N, classes). Source: "Distilling the Knowledge in a Neural Network" (1503.02531).
    """
    student = F.log_softmax(logits / temperature, -1)
    wanted = F.log_softmax(teacher / temperature, -1).expand_as(student)
    return temperature**2 * F.kl_div(student, wanted, reduction="none", log_target=True).sum(-1).mean()


def hard_targets(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of logits (T, N, classes) with the teacher's decision, argmax of (N, classes), mean over T and N."""
    return F.cross_entropy(logits.flatten(0, 1), teacher.argmax(-1).repeat(len(logits)))


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of features (T, N, ...) and (N, ...)."""
    return (student - teacher).square().mean()


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine between all values of a sample's features, mean over steps and samples; (T, N, ...) and (N, ...)."""
    return 1 - F.cosine_similarity(student.flatten(2), teacher.flatten(1)[None], -1, SMALLEST_NORM).mean()


TARGETS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"soft": soft_targets, "hard": hard_targets}
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": squared_distance, "cosine": cosine_distance}
STEPS: dict[str, Callable[[Tensor], Tensor]] = {"each": lambda x: x, "mean": lambda x: x.mean(0, keepdim=True)}


@dataclass(frozen=True)
class LabelTerm:
    """weight · cross-entropy of a head with the true labels. head: a module's name, "" for the model's output.

    steps: of "each" step, averaged over them, or of the "mean" of the logits over time.
    """

    weight: float = 1.0
    head: str = ""
    label_smoothing: float = 0.0
    steps: str = "each"

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        _check_name("steps", self.steps, STEPS)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}, accepted: 0 to below 1")


@dataclass(frozen=True)
class LogitTerm:
    """weight · difference between a head of the student and one of a teacher.

    head, teacher_head: names of the modules that give the logits, "" for the output. teacher: which one, from 0; one
    that has time steps is averaged over them.
    targets: "soft" (KL divergence at ``temperature``) or "hard" (cross-entropy with the teacher's decision).
    steps: "each" step of the student, or the "mean" of its logits over time.
    """

    weight: float = 1.0
    head: str = ""
    teacher: int = 0
    teacher_head: str = ""
    targets: str = "soft"
    temperature: float = 1.0
    steps: str = "each"

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        _check_teacher(self.teacher)
        _check_name("targets", self.targets, TARGETS)
        _check_name("steps", self.steps, STEPS)
        if not self.temperature > 0 or (self.targets == "hard" and self.temperature != 1):
            raise ConfigError(f"temperature is {self.temperature}, accepted: above 0, and 1 for hard targets")


@dataclass(frozen=True)
class FeatureTerm:
    """weight · distance between what module ``student`` gives, (T, N, C, ...), and a teacher's ``teacher_layer``.

    The teacher's features are (N, C, ...), or (T, N, C, ...), and then averaged over time.
    distance: "mse" or "cosine". steps: "each" step of the student, or the "mean" of its features over time.
    projection: a learned linear map from the student's channels to the teacher's, see ``attach_projections``.
    """

    student: str
    teacher_layer: str
    weight: float = 1.0
    teacher: int = 0
    distance: str = "mse"
    steps: str = "each"
    projection: bool = False

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        _check_teacher(self.teacher)
        _check_name("distance", self.distance, DISTANCES)
        _check_name("steps", self.steps, STEPS)
        if not self.student or not self.teacher_layer:
            raise ConfigError("a feature needs the names of a student's and a teacher's module")


def logits_per_step(name: str, logits: Tensor) -> Tensor:
    """(T, N, classes), in at least single precision; a head without time (N, classes) is one step."""
    if logits.dim() not in (2, 3):
        raise ConfigError(f"head {name!r} gives {tuple(logits.shape)}, accepted: (N, classes) or (T, N, classes)")
    return _real(logits if logits.dim() == 3 else logits[None])


def teacher_logits(term: LogitTerm, logits: Tensor, student: Tensor) -> Tensor:
    """(N, classes) like the student's logits (T, N, classes)."""
    prediction = logits_per_step(term.teacher_head, logits).mean(0)
    if prediction.shape != student.shape[1:]:
        raise ConfigError(
            f"teacher {term.teacher} gives logits {tuple(prediction.shape)}, the student {_sample(student)}"
        )
    return prediction.to(student.dtype)


def teacher_features(term: FeatureTerm, features: Tensor, student: Tensor) -> Tensor:
    """(N, C, ...) like the student's features (T, N, C, ...)."""
    features = _real(features)
    mean = features.mean(0) if features.dim() == student.dim() else features
    if student.dim() < 3 or mean.shape != student.shape[1:]:
        raise ConfigError(
            f"{term.teacher_layer!r} of teacher {term.teacher} gives {tuple(mean.shape)} and {term.student!r} of the student "
            f"{_sample(student)} per step; accepted: one shape (a projection can change the channels)"
        )
    return mean.to(student.dtype)


def _sample(student: Tensor) -> tuple[int, ...]:
    return tuple(student.shape[1:])


def _real(x: Tensor) -> Tensor:
    return x if x.dtype.itemsize >= 4 else x.float()


def _check_weight(weight: float) -> None:
    if not weight >= 0:
        raise ConfigError(f"weight is {weight}, accepted: 0 or more")


def _check_teacher(teacher: int) -> None:
    if teacher < 0:
        raise ConfigError(f"teacher is {teacher}, accepted: 0 or more")


def _check_name(field: str, value: str, accepted: dict[str, Callable[..., Tensor]]) -> None:
    if value not in accepted:
        raise ConfigError(f"{field} is {value!r}, accepted: {', '.join(accepted)}")
