"""A network from data to artifact in stages: each one applies compression methods, then trains.

The systems that are compositions of registered methods (quantize, prune, fine-tune, in any order) are configurations
of this one recipe, registered under their own names. The test set is read once, after the last stage.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .. import compress, deploy, learn, measure
from ..compress import CompressionConfig, config_from_dict
from ..data import DataBundle
from ..errors import ConfigError
from ..learn import Runtime, SpikeRegulation, TrainConfig, Trainer
from ..ops import leave_processes
from .registry import register_recipe
from .run import RunDirectory
from .setup import DataChoice, build_model, calibration_batches, load_data
from .ship import is_first_process, ship

__all__ = ["Stage", "StagesConfig", "run_stages"]

EXACT = "exact"
STAGE_SEED_OFFSET = 1000  # stages see different batches


@dataclass(frozen=True)
class Stage:
    """``apply``: methods in order, each a JSON object with type and version. ``train``: None only applies them.

    start: "previous" continues the stage before, "fresh" takes a newly initialised network, the name of an earlier
    stage continues that one.
    """

    name: str
    apply: tuple[dict[str, Any], ...] = ()
    train: TrainConfig | None = None
    start: str = "previous"

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").isalnum() or self.name == EXACT:
            raise ConfigError(f"stage name is {self.name!r}, accepted: letters, digits and '-', not {EXACT!r}")
        self.methods()

    def methods(self) -> list[CompressionConfig]:
        """``apply`` as configurations."""
        return [config_from_dict(method) for method in self.apply]


@dataclass(frozen=True)
class StagesConfig:
    """``model``: name and options of ``create_model``; ``exact``: fine-tuning on the deployed integers, at the end.

    calibration_batches of calibration_size training samples are what methods measure the network on.
    """

    data: DataChoice
    model: dict[str, Any]
    stages: tuple[Stage, ...]
    exact: TrainConfig
    calibration_batches: int = 5
    calibration_size: int = 128
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError("stages is empty, accepted: at least one stage")
        earlier: list[str] = []
        for stage in self.stages:
            if stage.name in earlier:
                raise ConfigError(f"stage name {stage.name!r} is used twice, accepted: different names")
            if stage.start not in ("previous", "fresh", *earlier):
                accepted = ", ".join(["previous", "fresh", *earlier])
                raise ConfigError(f"stage {stage.name!r} starts from {stage.start!r}, accepted: {accepted}")
            earlier.append(stage.name)


def run_stages(
    config: StagesConfig,
    directory: Path,
    *,
    recipe: str,
    resume: bool = False,
    initial_weights: Path | None = None,
    latency_budget_s: float = 10.0,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Run the stages, fine-tune on the deployed integers, ship and measure into ``directory``; returns the figures.

    initial_weights: of the uncompressed model, to start from instead of a random network. Under torchrun every process
    trains, the first one writes.
    """
    began = time.perf_counter()
    folder = RunDirectory(directory)
    folder.check(recipe, config, resume or not is_first_process())
    bundle = load_data(config)
    if is_first_process():
        folder.begin(recipe, config, resume)
    history: dict[str, list[dict[str, float]]] = {}

    def train(name: str, model: nn.Module, settings: TrainConfig) -> None:
        trainer = Trainer(
            settings,
            objective=SpikeRegulation(0.0, label_smoothing=settings.label_smoothing),
            on_epoch=compress.set_training_progress,
            seed=config.seed + STAGE_SEED_OFFSET * len(history),
            runtime=config.runtime,
            directory=folder.stage(name),
            title=name,
            logger=learn.tensorboard_logger(folder.stage(name)) if tensorboard and is_first_process() else None,
        )
        history[name] = trainer.fit(model, bundle, resume=resume)

    def fresh() -> nn.Module:
        model = build_model(config, bundle.spec)
        if initial_weights is not None:
            learn.load_weights(initial_weights, model)
        return model

    ended: dict[str, nn.Module] = {}
    model: nn.Module | None = None
    for stage in config.stages:
        if model is None or stage.start == "fresh":
            model = fresh()
        else:
            model = copy.deepcopy(model if stage.start == "previous" else ended[stage.start])
        _apply(folder, stage, model, config, bundle, resume)
        if stage.train is not None:
            train(stage.name, model, stage.train)
        ended[stage.name] = model
    assert model is not None
    final = compress.freeze_membranes(copy.deepcopy(model))
    exact = deploy.exact_model(final)
    train(EXACT, exact, config.exact)
    leave_processes()  # what follows, the first process does alone
    if not is_first_process():
        return {}
    result = ship(
        folder,
        recipe,
        config,
        bundle,
        exact,
        {name.replace("-", " "): network for name, network in ended.items()},
        history,
        methods=compress.applied(final),
        latency_budget_s=latency_budget_s,
    )
    result["seconds"] = time.perf_counter() - began
    folder.write_result(result)
    measure.write_report(result, folder.report)
    return result


def _apply(
    folder: RunDirectory, stage: Stage, model: nn.Module, config: StagesConfig, bundle: DataBundle, resume: bool
) -> None:
    """Apply the stage's methods; a resumed stage applies what its first start recorded, and measures nothing again."""
    methods: Sequence[CompressionConfig] = stage.methods()
    before = len(compress.applied(model))
    if resume and folder.has_methods(stage.name):
        methods = folder.read_methods(stage.name)[before:]
    calibration = calibration_batches(bundle.train, config.calibration_batches, config.calibration_size, config.seed)
    for method in methods:
        compress.apply(model, method, calibration=calibration)
    if is_first_process():
        folder.write_methods(compress.applied(model), stage.name)


def _register(name: str, summary: str) -> None:
    register_recipe(name, summary, StagesConfig)(functools.partial(run_stages, recipe=name))


_register("compress", "any composition of compression methods, in stages")
_register("qp-snn", "uniform quantization by ReScaW, then structured pruning by singular values (QP-SNN, 2025)")
_register("lats", "soft-threshold pruning with a learning-rate adapted threshold (LATS, 2023)")
_register("sei-bwsnn", "binary weights, multiple shortcuts and distillation (self-ensemble inspired, 2025)")
