"""Q-SNN from data to artifact: train, fine-tune on the deployed integers, compile, prove, measure.

Stages: full-precision baseline (optional); quantized training by the method; exact fine-tuning; compilation. The
test set is read once, after the last stage.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .. import compress, deploy, learn, measure
from ..compress import QSNN
from ..learn import Runtime, SpikeRegulation, TrainConfig, Trainer
from ..ops import leave_processes
from .registry import register_recipe
from .run import RunDirectory
from .setup import DataChoice, build_model, load_data
from .ship import is_first_process, ship

__all__ = ["QSNNConfig", "Regulation", "run"]

EXACT_SEED_OFFSET = 1000  # the fine-tuning stage sees other batches than the training stage


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
        baseline = build_model(config, bundle.spec)
        stage("full-precision", baseline, config.baseline, config.seed, 0.0)
    model = build_model(config, bundle.spec)
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

    trained = {"quantized": quantized} if baseline is None else {"full precision": baseline, "quantized": quantized}
    result = ship(
        folder,
        "q-snn",
        config,
        bundle,
        exact,
        trained,
        history,
        methods=compress.applied(model),
        latency_budget_s=latency_budget_s,
    ) | {"title": f"Q-SNN on {config.data.name}", "seconds": time.perf_counter() - began}
    folder.write_result(result)
    measure.write_report(result, folder.report)
    return result
