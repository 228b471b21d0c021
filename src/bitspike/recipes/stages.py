"""A network from data to artifact in stages: each one applies compression methods, then trains.

The systems that are compositions of registered methods (quantize, prune, fine-tune, in any order) are configurations
of this one recipe, registered under their own names. The test set is read once, after the last stage.
"""

from __future__ import annotations

import copy
import functools
import time
from pathlib import Path
from typing import Any

from torch import nn

from .. import compress, deploy, learn, measure
from ..compress import MixedBits, SoftThreshold, SoftThresholdPruning, threshold_driver
from ..data import DataBundle, num_batches
from ..learn import (
    BatchObjective,
    Objective,
    Propagation,
    TrainConfig,
    Trainer,
)
from ..learn.schedule import learning_rate_factor
from ..learn.trainer import EpochHook, StepHook
from ..neurons import mask_schedule
from ..ops import leave_processes
from .bits import choose_bits
from .registry import register_recipe
from .run import RunDirectory
from .setup import build_model, calibration_batches, load_data
from .ship import compile_for, is_first_process, keep, ship
from .stage import EXACT, OBJECTIVES, PROPAGATIONS, Stage, StagesConfig

__all__ = ["Stage", "StagesConfig", "run_stages"]

STAGE_SEED_OFFSET = 1000  # stages see different batches


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
    rehearse(config, bundle)
    if is_first_process():
        folder.begin(recipe, config, resume)
    history: dict[str, list[dict[str, float]]] = {}

    def train(
        name: str,
        model: nn.Module,
        settings: TrainConfig,
        objective: Objective | BatchObjective,
        propagate: Propagation = learn.whole_sequence,
        begins: bool = False,
    ) -> None:
        trainer = Trainer(
            settings,
            objective=objective,
            propagate=propagate,
            on_epoch=_epoch_driver(settings, begins),
            on_step=_threshold_driver(model, settings, bundle),
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

    own = {stage.name for stage in config.stages if stage.network is None}
    ended: dict[str, nn.Module] = {}
    model: nn.Module | None = None
    record: dict[str, Any] | None = None
    for stage in config.stages:
        if stage.network is not None and stage.train is not None:
            ended[stage.name] = learn.build_teacher(stage.network, bundle.spec, config.seed)
            train(stage.name, ended[stage.name], stage.train, OBJECTIVES[stage.objective](stage.train.label_smoothing))
            continue
        if model is None or stage.start == "fresh":
            model = fresh()
        else:
            model = copy.deepcopy(model if stage.start == "previous" else ended[stage.start])
        chosen = _apply(folder, stage, model, recipe, config, bundle, resume)
        record = record or chosen
        if stage.rewind:
            compress.rewind(model, fresh().state_dict())
        if stage.train is not None:
            objective: Objective | BatchObjective = OBJECTIVES[stage.objective](stage.train.label_smoothing)
            if stage.distill is not None and stage.teacher is not None:
                objective = learn.Distiller(stage.distill, ended[stage.teacher])
            begins = initial_weights is None and (stage.start == "fresh" or not history.keys() & own)
            train(stage.name, model, stage.train, objective, PROPAGATIONS[stage.propagate], begins)
        ended[stage.name] = model
    assert model is not None
    named = {name.replace("-", " "): network for name, network in ended.items()}
    final = compress.freeze_membranes(copy.deepcopy(model))
    exact = None
    if config.exact is not None:
        exact = deploy.exact_model(final)
        train(EXACT, exact, config.exact, OBJECTIVES[config.stages[-1].objective](config.exact.label_smoothing))
    leave_processes()  # what follows, the first process does alone
    if not is_first_process():
        return {}
    if exact is None:
        result = keep(folder, recipe, config, bundle, final, named, history)
    else:
        result = ship(
            folder,
            recipe,
            config,
            bundle,
            exact,
            named,
            history,
            methods=compress.applied(final),
            latency_budget_s=latency_budget_s,
        )
    if record is not None:
        result["allocation"] = record
    result["seconds"] = time.perf_counter() - began
    folder.write_result(result)
    measure.write_report(result, folder.report)
    return result


def rehearse(config: StagesConfig, bundle: DataBundle) -> None:
    """Apply all methods and lower, without any training: what cannot be combined or deployed is refused at once."""
    samples = calibration_batches(bundle.train, 1, 2, config.seed)
    ended: dict[str, nn.Module] = {}
    model = build_model(config, bundle.spec)
    for stage in config.stages:
        if stage.network is not None:
            learn.build_teacher(stage.network, bundle.spec, config.seed)
            continue
        if stage.start != "previous":
            model = build_model(config, bundle.spec) if stage.start == "fresh" else ended[stage.start]
        model = copy.deepcopy(model)
        for method in stage.methods():
            compress.apply(model, method, calibration=samples)
        if stage.bits is not None:
            compress.apply(model, MixedBits(default=max(stage.bits.bits), quantizer=stage.bits.quantizer))
        ended[stage.name] = model
    if config.exact is not None:
        deploy.exact_model(compress.freeze_membranes(model))


def _apply(
    folder: RunDirectory,
    stage: Stage,
    model: nn.Module,
    recipe: str,
    config: StagesConfig,
    bundle: DataBundle,
    resume: bool,
) -> dict[str, Any] | None:
    """Apply the stage's methods; a resumed stage applies what its first start recorded, and measures nothing again.

    Returns the record of a choice of bits.
    """
    before = len(compress.applied(model))
    if resume and folder.has_methods(stage.name):
        for method in folder.read_methods(stage.name)[before:]:
            compress.apply(model, method)
        return folder.read_allocation(stage.name)
    calibration = calibration_batches(bundle.train, config.calibration_batches, config.calibration_size, config.seed)
    for method in stage.methods():
        compress.apply(model, method, calibration=calibration)
    record = None
    if stage.bits is not None:

        def compiled(quantized: nn.Module) -> bytes:
            exact = deploy.exact_model(compress.freeze_membranes(quantized)).eval()
            return compile_for(exact, recipe, config, bundle).to_bytes()

        validation = bundle.validation if len(bundle.validation) else bundle.train
        mixed, record = choose_bits(model, stage.bits, calibration, validation, compiled)
        compress.apply(model, mixed)
    if is_first_process():
        folder.write_methods(compress.applied(model), stage.name, record)
    return record


def _epoch_driver(settings: TrainConfig, begins: bool) -> EpochHook:
    """What moves with the epochs: estimators; and masks of neurons, in the training that ``begins`` a network."""
    masks = mask_schedule(settings.epochs) if begins else None

    def drive(model: nn.Module, progress: float) -> None:
        compress.set_training_progress(model, progress)
        if masks is not None:
            masks(model, progress)

    return drive


def _threshold_driver(model: nn.Module, settings: TrainConfig, bundle: DataBundle) -> StepHook | None:
    """What raises the threshold of a soft-threshold method over this training; None where no weight has one."""
    methods = [m for m in compress.applied(model) if isinstance(m, SoftThresholdPruning)]
    if not methods or not any(isinstance(module, SoftThreshold) for module in model.modules()):
        return None
    batches = num_batches(len(bundle.train), settings.batch_size, drop_last=True)
    rates = [
        settings.learning_rate * learning_rate_factor(epoch + index / max(batches, 1), settings)
        for epoch in range(settings.epochs)
        for index in range(batches)
    ]
    return threshold_driver(methods[-1], rates)


def _register(name: str, summary: str) -> None:
    register_recipe(name, summary, StagesConfig)(functools.partial(run_stages, recipe=name))


_register("compress", "any composition of compression methods, in stages")
_register("qp-snn", "uniform quantization by ReScaW, then structured pruning by singular values (QP-SNN, 2025)")
_register("lats", "soft-threshold pruning with a learning-rate adapted threshold (LATS, 2023)")
_register(
    "bestformer", "binary transformer on two reversible streams, taught by labels and a teacher (BESTformer, 2025)"
)
_register("sei-bwsnn", "binary weights, multiple shortcuts and distillation (self-ensemble inspired, 2025)")
_register("spikingformer", "spiking transformer with a stream of currents, in 4 bits (Spikingformer, 2023)")
_register("qkformer", "spiking transformer in stages, mixed by masks of queries, in 4 bits (QKFormer, 2024)")
_register("snn-vit", "spiking transformer with saccadic attention, in 4 bits (SNN-ViT, 2025)")
_register("sequential", "images one column per step, for any neuron by name (parallel spiking neurons, 2023)")
