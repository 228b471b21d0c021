"""Teachers that do not spike: a small convolutional network, or one of a library's by its name there."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import DataSpec
from ..errors import BitspikeError, ConfigError

__all__ = ["TEACHERS", "Teacher", "build_teacher", "check_teacher"]


class Teacher(nn.Module):
    """Samples (N, C, H, W), u8 values, to logits (1, N, classes): one step, so that it trains and answers like a student.

    body: takes normalised images (q - zero_point[c]) * scale, enlarged bilinearly to ``size`` x ``size`` if given.
    """

    zero_point: Tensor
    _like: Tensor

    def __init__(self, body: nn.Module, spec: DataSpec, size: int | None = None) -> None:
        super().__init__()
        self.body = body
        self.size = size
        self.scale = spec.scale
        self.register_buffer("zero_point", torch.tensor(spec.zero_point, dtype=torch.int64))
        self.register_buffer("_like", torch.zeros(()), persistent=False)  # follows model.to(dtype)

    def forward(self, samples: Tensor) -> Tensor:
        if samples.dim() != 4:
            raise BitspikeError(f"a teacher of images was given {tuple(samples.shape)}, accepted: (N, C, H, W)")
        dtype = self._like.dtype
        images = (samples.to(dtype) - self.zero_point.to(dtype).view(-1, 1, 1)) * self.scale
        if self.size is not None:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        logits: Tensor = self.body(images)
        return logits[None]


def convnet(spec: DataSpec, widths: list[int] | tuple[int, ...] = (32, 64, 128)) -> Teacher:
    """3x3 convolutions with batch norm and ReLU, two of each width, halved between widths; the mean pixel is classified."""
    if not widths or min(widths) < 1:
        raise ConfigError(f"widths of a convnet are {tuple(widths)}, accepted: at least one, each 1 or more")
    layers: list[nn.Module] = []
    channels = spec.shape[0]
    for position, width in enumerate(widths):
        layers += [nn.MaxPool2d(2, ceil_mode=True)] if position else []
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(spec.classes))]
    return Teacher(nn.Sequential(*layers, *head), spec)


def timm_network(spec: DataSpec, model: str, size: int | None = None, **options: Any) -> Teacher:
    """``timm.create_model(model, ...)`` for the data's classes and channels; ``options`` are timm's own."""
    create = _library("timm").create_model
    return Teacher(create(model, num_classes=len(spec.classes), in_chans=spec.shape[0], **options), spec, size)


def torchvision_network(spec: DataSpec, model: str, size: int | None = None, **options: Any) -> Teacher:
    """``torchvision.models.get_model(model, ...)``, its last linear layer replaced by one for the data's classes."""
    body: nn.Module = _library("torchvision.models").get_model(model, **options)
    name, last = [(n, m) for n, m in body.named_modules() if isinstance(m, nn.Linear)][-1]
    holder, _, own = name.rpartition(".")
    setattr(body.get_submodule(holder), own, nn.Linear(last.in_features, len(spec.classes)))
    return Teacher(body, spec, size)


TEACHERS: dict[str, Callable[..., Teacher]] = {
    "convnet": convnet,
    "timm": timm_network,
    "torchvision": torchvision_network,
}


def build_teacher(network: Mapping[str, Any], spec: DataSpec, seed: int) -> Teacher:
    """The teacher that ``network`` describes, ``name`` and options of :data:`TEACHERS`, initialised from ``seed``."""
    check_teacher(network)
    options = dict(network)
    torch.manual_seed(seed)
    return TEACHERS[options.pop("name")](spec, **options)


def check_teacher(network: Mapping[str, Any]) -> None:
    """ConfigError for an unknown name or option, or a missing one."""
    name = network.get("name")
    if name not in TEACHERS:
        raise ConfigError(f"teacher network is {name!r}, accepted: {', '.join(TEACHERS)}")
    options = {key: value for key, value in network.items() if key != "name"}
    try:
        inspect.signature(TEACHERS[name]).bind(None, **options)
    except TypeError as error:
        raise ConfigError(f"teacher network {name!r}: {error}") from None


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ConfigError(f"this teacher needs {package}, which is not installed: pip install {package}") from None
