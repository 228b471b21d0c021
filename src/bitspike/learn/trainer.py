"""The Trainer: one stage of training on Lightning Fabric, resumable after any interruption.

Everything random is a function of (seed, epoch, sample or batch index), and schedules are functions of the epoch, so
a resumed run repeats the uninterrupted one exactly (same machine and thread count).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from ..data import Augment, DataBundle, epoch_batches, num_batches
from ..errors import ConfigError
from ..layers import mean_over_time
from ..ops import all_mean
from .allocator import keep_freed_memory
from .checkpoint import discard_checkpoints, load_checkpoint, save_checkpoint
from .config import CONVOLUTIONS, Runtime, TrainConfig
from .evaluate import evaluate, to_model_input
from .loss import BatchObjective, Objective, SpikeRegulation, objective_of_batch
from .mixup import mixup
from .optimizer import build_optimizer
from .progress import EpochProgress, Running
from .propagate import Propagation, whole_sequence
from .schedule import learning_rate_factor

__all__ = ["Trainer"]

EpochHook = Callable[[nn.Module, float], None]
StepHook = Callable[[nn.Module, float], None]
Record = dict[str, float]


class Trainer:
    """Trains a model by ``config``.

    objective: loss from logits, targets and firing rates; the time-mean cross-entropy with spike regulation by default.
        One with a ``batch`` method, like ``Distiller``, sees every batch first.
    propagate: ``whole_sequence``, ``per_step`` for memory that does not grow with T, or ``checkpointed(chunk)`` for the
        gradients of the whole sequence in the memory of ``chunk`` steps.
    on_epoch: called with (model, progress) before each epoch, progress = epoch / epochs, e.g. to move an estimator.
    on_step: called with (model, learning rate used) after each optimizer step, e.g. to raise a pruning threshold.
    directory: where checkpoints go after each epoch (none without it); ``title`` labels the progress bar.
    logger: called with (epoch, record) on the first process, e.g. a TensorBoard writer.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        objective: Objective | BatchObjective | None = None,
        propagate: Propagation = whole_sequence,
        on_epoch: EpochHook | None = None,
        on_step: StepHook | None = None,
        seed: int = 0,
        runtime: Runtime | None = None,
        directory: Path | None = None,
        title: str = "train",
        logger: Callable[[int, Record], None] | None = None,
    ) -> None:
        self.config = config
        self.objective = objective or SpikeRegulation(label_smoothing=config.label_smoothing)
        self.propagate = propagate
        self.on_epoch = on_epoch
        self.on_step = on_step
        self.seed = seed
        self.runtime = runtime or Runtime()
        self.directory = directory
        self.title = title
        self.logger = logger

    def fit(self, model: nn.Module, data: DataBundle, *, resume: bool = False) -> list[Record]:
        """Train ``model`` in place on ``data.train``; returns one record per epoch, measured on train and validation.

        With ``resume`` a checkpoint in ``directory`` is continued (a finished one returns its records at once).
        """
        if self.runtime.keep_freed_memory and not keep_freed_memory():
            raise ConfigError("keep_freed_memory is true, accepted with the C library of GNU only: false")
        fabric = self._fabric()
        fabric.launch()
        optimizer = build_optimizer(model, self.config)
        wrapped, wrapped_optimizer = fabric.setup(model, optimizer)  # sets precision and device, so it precedes loading
        history: list[Record] = []
        if self.directory is not None:
            if resume:
                state = load_checkpoint(self.directory, model, optimizer)
                history = state["history"] if state else []
            elif fabric.is_global_zero:
                discard_checkpoints(self.directory)
        augment = Augment(self.config.augment, data.spec, self.seed)
        for epoch in range(len(history), self.config.epochs):
            if self.on_epoch is not None:
                self.on_epoch(model, epoch / self.config.epochs)
            with CONVOLUTIONS[self.runtime.convolutions]():
                record = self._epoch(fabric, wrapped, wrapped_optimizer, data, augment, epoch)
            validation = evaluate(model, data.validation) if len(data.validation) else None
            if validation is not None:
                record |= {"validation_accuracy": validation.accuracy, "validation_loss": validation.loss}
            history.append(record)
            if fabric.is_global_zero:
                if self.directory is not None:
                    save_checkpoint(self.directory, model, optimizer, {"epoch": epoch, "history": history})
                if self.logger is not None:
                    self.logger(epoch, record)
            fabric.barrier()
        return history

    def _fabric(self) -> Fabric:
        """ConfigError in Fabric's own words where the runtime asks for what is not here."""
        try:
            return Fabric(
                accelerator=self.runtime.accelerator,
                devices=self.runtime.devices,
                num_nodes=self.runtime.nodes,
                strategy=self.runtime.strategy,
                precision=self.config.precision,  # type: ignore[arg-type]
            )
        except (RuntimeError, ValueError, TypeError) as error:
            raise ConfigError(f"{self.runtime}: {error}") from None

    def _epoch(
        self, fabric: Fabric, model: Any, optimizer: Any, data: DataBundle, augment: Augment, epoch: int
    ) -> Record:
        config = self.config
        model.train()
        batches = num_batches(len(data.train), config.batch_size, drop_last=True)
        if batches == 0:
            raise ConfigError(
                f"batch_size is {config.batch_size}, accepted: at most the {len(data.train)} training samples"
            )
        running = Running()
        began = time.perf_counter()
        iterator = epoch_batches(
            data.train,
            config.batch_size,
            seed=self.seed,
            epoch=epoch,
            drop_last=True,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            augment=augment,
        )
        title = f"{self.title} epoch {epoch + 1}/{config.epochs}"
        with EpochProgress(title, batches, visible=fabric.is_global_zero) as progress:
            for index, (samples, labels, _) in enumerate(iterator):
                factor = learning_rate_factor(epoch + index / max(batches, 1), config)
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * factor
                inputs = to_model_input(samples, fabric.device)
                targets = hard = torch.from_numpy(labels).to(fabric.device)
                if config.mixup > 0:
                    batch_axis = 1 if inputs.dim() == 5 else 0
                    classes, seed = len(data.spec.classes), (self.seed, epoch, index)
                    inputs, targets = mixup(inputs, targets, classes, config.mixup, batch_axis, seed)
                optimizer.zero_grad(set_to_none=True)
                with objective_of_batch(self.objective, model.module, inputs) as objective:
                    done = self.propagate(model, inputs, targets, objective, fabric.backward)
                if config.gradient_clip > 0:
                    fabric.clip_gradients(model, optimizer, max_norm=config.gradient_clip)
                optimizer.step()
                if self.on_step is not None:
                    self.on_step(model, config.learning_rate * factor)
                with torch.no_grad():
                    hits = (mean_over_time(done.logits).argmax(-1) == hard).float().mean()
                    rate = torch.stack([r.rate for r in done.rates]).mean() if done.rates else torch.zeros(())
                    loss, hits = all_mean(done.loss), all_mean(hits)
                    running.add(loss, hits, rate, len(labels) * fabric.world_size)
                progress.advance(running)
        return running.record() | {
            "epoch": epoch,
            "learning_rate": config.learning_rate * learning_rate_factor(epoch, config),
            "seconds": time.perf_counter() - began,
        }
