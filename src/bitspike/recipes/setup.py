"""What every recipe begins with: a data set, a model fitted to it, and batches to calibrate methods on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .. import compress, data, models
from ..compress import CompressionConfig
from ..data import DataBundle, DataSpec, Split
from ..data.partition import stratified_holdout
from ..encode import image_columns
from ..errors import ConfigError
from ..learn.evaluate import to_model_input

__all__ = ["DataChoice", "RunConfig", "build_model", "calibration_batches", "load_data", "with_root"]


def in_columns(bundle: DataBundle) -> DataBundle:
    """The same images as sequences of their columns, T the width. ConfigError where samples are sequences already."""
    spec = bundle.spec
    if spec.time_steps is not None:
        raise ConfigError(f"data.present is 'columns', accepted for {spec.name}, whose samples are frames: whole")
    channels, height, width = spec.shape
    splits = (Split(image_columns(s.inputs), s.labels) for s in (bundle.train, bundle.validation, bundle.test))
    return DataBundle(dataclasses.replace(spec, shape=(channels, height, 1), time_steps=width), *splits)


PRESENTATIONS: dict[str, Callable[[DataBundle], DataBundle]] = {"whole": lambda bundle: bundle, "columns": in_columns}


@dataclass(frozen=True)
class DataChoice:
    """Data set ``name``, its ``root`` folder (None: download), loader ``options`` and split.

    present: "whole" samples as they are, or images in "columns", one per time step.
    train_samples: train on this many samples only (None: all), a fixed, stratified draw that depends on ``split_seed`` alone.
    """

    name: str
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    validation_fraction: float = 0.1
    split_seed: int = 0
    train_samples: int | None = None
    present: str = "whole"

    def __post_init__(self) -> None:
        if self.present not in PRESENTATIONS:
            raise ConfigError(f"data.present is {self.present!r}, accepted: {', '.join(PRESENTATIONS)}")
        if self.train_samples is not None and self.train_samples < 1:
            raise ConfigError(f"data.train_samples is {self.train_samples}, accepted: 1 or more, or null for all")


class RunConfig(Protocol):
    """What the configurations of all recipes have; ``model``: name and options of ``create_model``."""

    @property
    def data(self) -> DataChoice: ...
    @property
    def model(self) -> dict[str, Any]: ...
    @property
    def seed(self) -> int: ...


def with_root(config: Any, root: Path | None) -> Any:
    """``config`` with its data in folder ``root``; None changes nothing."""
    if root is None:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(root)))


def load_data(config: RunConfig) -> DataBundle:
    """The splits; train and validation depend on ``split_seed`` only, so that seeds of a run share them."""
    choice = config.data
    bundle = data.load(
        choice.name,
        choice.root,
        seed=choice.split_seed,
        validation_fraction=choice.validation_fraction,
        **choice.options,
    )
    return PRESENTATIONS[choice.present](_drawn(bundle, choice))


def _drawn(bundle: DataBundle, choice: DataChoice) -> DataBundle:
    if choice.train_samples is None:
        return bundle
    if choice.train_samples > len(bundle.train):
        raise ConfigError(
            f"data.train_samples is {choice.train_samples}, accepted: at most {len(bundle.train)} of {choice.name}"
        )
    if choice.train_samples == len(bundle.train):
        return bundle
    _, drawn = stratified_holdout(bundle.train.labels, choice.train_samples / len(bundle.train), choice.split_seed)
    return dataclasses.replace(bundle, train=Split(bundle.train.inputs[drawn], bundle.train.labels[drawn]))


def build_model(config: RunConfig, spec: DataSpec, methods: Sequence[CompressionConfig] = ()) -> nn.Module:
    """The configured model, initialised from the seed, fitted to the data's shape, classes and number format.

    methods: compressions that need no calibration, applied in order.
    """
    options = dict(config.model)
    if "name" not in options:
        raise ConfigError(f"model needs a name, accepted: {', '.join(models.list_models())}")
    name = options.pop("name")
    defaults: dict[str, Any] = {
        "num_classes": len(spec.classes),
        "input_shape": spec.shape,
        "zero_point": spec.zero_point,
        "input_scale": spec.scale,
    }
    if spec.time_steps is not None:
        defaults["T"] = spec.time_steps
    torch.manual_seed(config.seed)
    model = models.create_model(name, **(defaults | options))
    for method in methods:
        compress.apply(model, method)
    return model


def calibration_batches(split: Split, batches: int, batch_size: int, seed: int) -> list[Tensor]:
    """``batches`` different batches of training samples as the model takes them, u8; fewer where the data end."""
    drawn = itertools.islice(data.epoch_batches(split, batch_size, seed=seed, epoch=0), batches)
    return [to_model_input(samples, torch.device("cpu")) for samples, _, _ in drawn]
