"""The configuration of a recipe in stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import learn
from ..compress import CompressionConfig, config_from_dict
from ..errors import ConfigError
from ..learn import Distillation, MeanLogits, Objective, Runtime, SpikeRegulation, TrainConfig
from .bits import BitBudget
from .setup import DataChoice

__all__ = ["EXACT", "OBJECTIVES", "PROPAGATIONS", "Stage", "StagesConfig"]

EXACT = "exact"
OBJECTIVES: dict[str, Callable[[float], Objective]] = {  # from the label smoothing
    "every-step": lambda smoothing: SpikeRegulation(0.0, label_smoothing=smoothing),
    "mean-logits": MeanLogits,
}
PROPAGATIONS = {"whole": learn.whole_sequence, "per-step": learn.per_step}


@dataclass(frozen=True)
class Stage:
    """``apply``: methods in order, each a JSON object with type and version. ``train``: None only applies them.

    start: "previous" continues the stage before, "fresh" takes a newly initialised network, the name of an earlier
        stage continues that one.
    bits: choose bits per layer within a budget, and apply them after the methods.
    rewind: set what fixed masks leave back to its initial values, after the methods (pruning at initialisation).
    distill, teacher: train on the answers of the stage named ``teacher``; its terms stand for the whole loss.
    propagate: "whole" sequences, or "per-step" for memory that does not grow with T.
    objective: "every-step" has to give the class, or the "mean-logits" of all.
    network: name and options of a network of ``learn.teachers`` that this stage trains in place of the run's, to be a teacher.
        It begins anew, and the stages after it go on as if it were not there.
    """

    name: str
    apply: tuple[dict[str, Any], ...] = ()
    train: TrainConfig | None = None
    start: str = "previous"
    bits: BitBudget | None = None
    rewind: bool = False
    distill: Distillation | None = None
    teacher: str | None = None
    propagate: str = "whole"
    objective: str = "every-step"
    network: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").isalnum() or self.name == EXACT:
            raise ConfigError(f"stage name is {self.name!r}, accepted: letters, digits and '-', not {EXACT!r}")
        if (self.distill is None) != (self.teacher is None):
            raise ConfigError(f"stage {self.name!r} needs distill and teacher together, accepted: both or none")
        if self.distill is not None and (self.distill.teachers > 1 or any(f.projection for f in self.distill.features)):
            raise ConfigError(f"stage {self.name!r} distils from one teacher, without learned projections")
        if self.propagate not in PROPAGATIONS:
            raise ConfigError(f"propagate is {self.propagate!r}, accepted: {', '.join(PROPAGATIONS)}")
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"objective is {self.objective!r}, accepted: {', '.join(OBJECTIVES)}")
        if self.network is not None:
            learn.check_teacher(self.network)
            if self.apply or self.bits is not None or self.rewind or self.teacher is not None:
                raise ConfigError(
                    f"stage {self.name!r} trains a network of its own, which is only trained, not compressed"
                )
            if self.train is None:
                raise ConfigError(f"stage {self.name!r} trains a network of its own and needs train")
        self.methods()

    def methods(self) -> list[CompressionConfig]:
        """``apply`` as configurations."""
        return [config_from_dict(method) for method in self.apply]


@dataclass(frozen=True)
class StagesConfig:
    """``model``: name and options of ``create_model``; ``exact``: fine-tuning on the deployed integers, at the end.

    exact None: the trained network is measured and kept, and nothing is deployed, for what has no integer form.
    calibration_batches of calibration_size training samples are what methods measure the network on.
    """

    data: DataChoice
    model: dict[str, Any]
    stages: tuple[Stage, ...]
    exact: TrainConfig | None
    calibration_batches: int = 5
    calibration_size: int = 128
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError("stages is empty, accepted: at least one stage")
        if self.stages[-1].network is not None:
            raise ConfigError(
                f"the last stage, {self.stages[-1].name!r}, trains a teacher, accepted: the run's network"
            )
        earlier: list[str] = []
        own = [stage.name for stage in self.stages if stage.network is None]
        for stage in self.stages:
            if stage.name in earlier:
                raise ConfigError(f"stage name {stage.name!r} is used twice, accepted: different names")
            begun = [name for name in earlier if name in own]
            if stage.start not in ("previous", "fresh", *begun):
                accepted = ", ".join(["previous", "fresh", *begun])
                raise ConfigError(f"stage {stage.name!r} starts from {stage.start!r}, accepted: {accepted}")
            if stage.teacher is not None and stage.teacher not in earlier:
                accepted = ", ".join(earlier) or "none, it is the first"
                raise ConfigError(f"stage {stage.name!r} learns from {stage.teacher!r}, accepted: {accepted}")
            earlier.append(stage.name)
