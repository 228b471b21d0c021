"""Q-SNN from data to artifact: train, fine-tune on the deployed integers, compile, prove, measure.

Stages: full-precision baseline (optional); quantized training by the method; exact fine-tuning; compilation. The
test set is read once, after the last stage.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import compress, data, deploy, engine, learn, measure, models
from ..compress import QSNN
from ..data import DataBundle
from ..errors import ConfigError
from ..learn import Runtime, SpikeRegulation, TrainConfig, Trainer
from ..learn.progress import activity
from ..ops import leave_processes
from .registry import register_recipe
from .run import RunDirectory

__all__ = ["DataChoice", "QSNNConfig", "Regulation", "build_model", "load_data", "restore", "run"]

SELF_TEST_BYTES = 4096  # samples stored for the self-test; long frame sequences would outweigh the network
REFERENCE_SAMPLES = 1000  # the numpy reference is slow; torch and every engine level see the whole test set
EXACT_SEED_OFFSET = 1000  # the fine-tuning stage sees other batches than the training stage


@dataclass(frozen=True)
class DataChoice:
    """Data set ``name``, its ``root`` folder (None: download), loader ``options`` and split."""

    name: str
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    validation_fraction: float = 0.1
    split_seed: int = 0


@dataclass(frozen=True)
class Regulation:
    """Spike regulation L_f: its ``weight`` in the loss and the ``target_rate`` it pulls inner layers to."""

    weight: float = 5e-3
    target_rate: float = 0.5


@dataclass(frozen=True)
class QSNNConfig:
    """``model``: name and options of ``create_model``; ``baseline``: None skips the full-precision network."""

    data: DataChoice
    model: dict[str, Any]
    train: TrainConfig
    exact: TrainConfig
    compress: QSNN = QSNN()
    regulation: Regulation = Regulation()
    baseline: TrainConfig | None = None
    runtime: Runtime = Runtime()
    seed: int = 0


@register_recipe("q-snn", "1-bit weights, low-bit membranes, weight-spike dual regulation (Q-SNN, 2024)", QSNNConfig)
def run(
    config: QSNNConfig,
    directory: Path,
    *,
    resume: bool = False,
    initial_weights: Path | None = None,
    latency_budget_s: float = 10.0,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train, ship and measure into ``directory``; returns what is written to result.json.

    initial_weights: full-precision weights to start the quantized stage from, instead of a random network.
    Under torchrun every process trains, the first one writes.
    """
    began = time.perf_counter()
    folder = RunDirectory(directory)
    folder.check("q-snn", config, resume or not is_first_process())
    bundle = load_data(config)
    if is_first_process():
        folder.begin("q-snn", config, resume)
    accuracy: dict[str, float] = {}
    history: dict[str, list[dict[str, float]]] = {}

    def stage(name: str, model: nn.Module, settings: TrainConfig, seed: int, weight: float) -> None:
        trainer = Trainer(
            settings,
            objective=SpikeRegulation(weight, config.regulation.target_rate, settings.label_smoothing),
            on_epoch=compress.set_training_progress,
            seed=seed,
            runtime=config.runtime,
            directory=folder.stage(name),
            title=name,
            logger=learn.tensorboard_logger(folder.stage(name)) if tensorboard and is_first_process() else None,
        )
        history[name] = trainer.fit(model, bundle, resume=resume)

    baseline = None
    if config.baseline is not None:
        baseline = build_model(config, bundle, quantize=False)
        stage("full-precision", baseline, config.baseline, config.seed, 0.0)
    model = build_model(config, bundle, quantize=False)
    if initial_weights is not None:
        learn.load_weights(initial_weights, model)
    compress.apply(model, config.compress)
    stage("quantized", model, config.train, config.seed, config.regulation.weight)
    quantized = copy.deepcopy(model)
    compress.freeze_membranes(model)
    exact = deploy.exact_model(model)
    stage("exact", exact, config.exact, config.seed + EXACT_SEED_OFFSET, config.regulation.weight)
    leave_processes()  # what follows, the first process does alone
    if not is_first_process():
        return {}

    exact = exact.cpu().eval()
    learn.save_weights(folder.weights, model)
    shipped = compile_for(exact, config, bundle)
    shipped.save(folder.artifact)
    network = engine.load(folder.artifact)
    test = bundle.test
    if baseline is not None:
        accuracy["full precision"] = learn.evaluate(baseline, test).accuracy
    accuracy["quantized"] = learn.evaluate(quantized, test).accuracy
    accuracy["exact"] = learn.evaluate(exact, test).accuracy
    accuracy["engine"] = float((network.run(test.inputs).argmax(-1) == test.labels).mean())
    with activity(f"measuring; comparing every spike of {len(test):,} test samples on every executor"):
        figures = measure.measure_all(
            folder.artifact,
            exact,
            test.inputs,
            test.labels,
            latency_budget_s=latency_budget_s,
            reference_samples=REFERENCE_SAMPLES,
        )
    validation = {name: records[-1].get("validation_accuracy") for name, records in history.items() if records}
    result = {
        "title": f"Q-SNN on {config.data.name}",
        "method": "q-snn",
        "data": config.data.name,
        "seed": config.seed,
        "accuracy": accuracy,
        "validation_accuracy": validation,
        "test_samples": len(test),
        "artifact_bytes": folder.artifact.stat().st_size,
        "differing_bits": differing_bits(figures["agreement"]),
        "train_seconds": {name: sum(r["seconds"] for r in records) for name, records in history.items()},
        "seconds": time.perf_counter() - began,
        "history": history,
        "classes": list(bundle.spec.classes),
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    } | figures
    folder.write_result(result)
    measure.write_report(result, folder.report)
    return result


def load_data(config: QSNNConfig) -> DataBundle:
    """The splits; train and validation depend on ``split_seed`` only, so that seeds of a run share them."""
    choice = config.data
    return data.load(
        choice.name,
        choice.root,
        seed=choice.split_seed,
        validation_fraction=choice.validation_fraction,
        **choice.options,
    )


def build_model(config: QSNNConfig, bundle: DataBundle, *, quantize: bool = True) -> nn.Module:
    """The configured model, initialised from the seed, fitted to the data's shape, classes and number format."""
    options = dict(config.model)
    if "name" not in options:
        raise ConfigError(f"q-snn.model needs a name, accepted: {', '.join(models.list_models())}")
    name = options.pop("name")
    spec = bundle.spec
    defaults = {
        "num_classes": len(spec.classes),
        "input_shape": spec.shape,
        "zero_point": spec.zero_point,
        "input_scale": spec.scale,
    }
    torch.manual_seed(config.seed)
    model = models.create_model(name, **(defaults | options))
    if quantize:
        compress.apply(model, config.compress)
    return model


def restore(directory: Path, data_root: Path | None = None) -> tuple[QSNNConfig, DataBundle, deploy.exact.ExactModel]:
    """The exact model of a finished run, with its data (from ``data_root`` if the files have moved)."""
    folder = RunDirectory(directory)
    _, config = folder.config()
    if data_root is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(data_root)))
    bundle = load_data(config)
    frozen = dataclasses.replace(config, compress=dataclasses.replace(config.compress, membrane="power-of-two"))
    model = build_model(frozen, bundle)
    learn.load_weights(folder.weights, model)
    return config, bundle, deploy.exact_model(model).eval()


def compile_for(exact: deploy.exact.ExactModel, config: QSNNConfig, bundle: DataBundle) -> deploy.Artifact:
    """Lower, with validation samples as calibration and self-test, and what a user of the file wants to know."""
    spec = bundle.spec
    meta = {
        "method": "q-snn",
        "data": spec.name,
        "classes": list(spec.classes),
        "model": config.model,
        "seed": config.seed,
    }
    samples = bundle.validation.inputs if len(bundle.validation) else bundle.train.inputs
    stored = min(2, SELF_TEST_BYTES // samples[0].nbytes)
    return deploy.compile(exact, np.ascontiguousarray(samples[:64]), meta=meta, test_vectors=stored)


def differing_bits(agreement: list[dict[str, Any]]) -> int:
    """Spikes and logits that differ anywhere in the agreement table."""
    return sum(int(row["differing_spikes"]) + int(row["differing_logits"]) for row in agreement)


def is_first_process() -> bool:
    """True in a single process and on rank 0 of several (from torchrun's environment, known before any group is)."""
    return int(os.environ.get("RANK", "0")) == 0
