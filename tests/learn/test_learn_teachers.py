"""Teachers that do not spike: what they read and answer, and libraries' networks by name."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import close, images, subset
from torch import nn
from torch.nn import functional as F

from bitspike.data import DataBundle
from bitspike.errors import BitspikeError, ConfigError
from bitspike.learn import TEACHERS, Teacher, TrainConfig, Trainer, build_teacher, check_teacher, evaluate


@pytest.mark.parametrize("size", [None, 13])
def test_a_teacher_reads_normalised_and_enlarged_images(digits: DataBundle, size: int | None) -> None:
    spec, samples = digits.spec, images(3, digits.spec.shape)
    expected = (samples.float() - spec.zero_point[0]) * spec.scale
    if size is not None:
        expected = F.interpolate(expected, (size, size), mode="bilinear", align_corners=False)
    answer = Teacher(nn.Flatten(), spec, size)(samples)
    assert answer.shape == (1, 3, (size or 8) ** 2)
    close(answer[0], expected.flatten(1))


def test_a_convnet_trains_like_a_student(few_digits: DataBundle) -> None:
    teacher = build_teacher({"name": "convnet", "widths": [8, 16]}, few_digits.spec, seed=0)
    plan = TrainConfig(epochs=6, batch_size=16, learning_rate=0.05)
    Trainer(plan, seed=0).fit(teacher, few_digits)
    assert evaluate(teacher, few_digits.test).accuracy > 0.3
    assert teacher(torch.from_numpy(few_digits.test.inputs)).shape == (1, 24, 10)
    again = build_teacher({"name": "convnet", "widths": [8, 16]}, few_digits.spec, seed=0)
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in teacher.parameters())


def test_frames_are_refused(digits: DataBundle) -> None:
    with pytest.raises(BitspikeError, match=r"\(2, 3, 1, 8, 8\), accepted: \(N, C, H, W\)"):
        build_teacher({"name": "convnet"}, digits.spec, 0)(images(2, (3, 1, 8, 8)))


class Linear(nn.Module):
    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(size, 7), nn.Linear(7, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(x)
        return out


def library(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Any) -> None:
    parent, _, own = name.partition(".")
    modules = {parent: ModuleType(parent)} | ({name: ModuleType(name)} if own else {})
    for key, value in functions.items():
        setattr(modules[name], key, value)
    for key, module in modules.items():
        monkeypatch.setitem(sys.modules, key, module)


def test_networks_of_libraries_are_fitted_to_the_data(digits: DataBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def create_model(model: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        asked.append((model, in_chans, options))
        return Linear(num_classes, 36)

    def get_model(model: str, **options: Any) -> nn.Module:
        asked.append((model, options))
        return Linear(1000, 36)

    library(monkeypatch, "timm", create_model=create_model)
    library(monkeypatch, "torchvision.models", get_model=get_model)
    for network in (
        {"name": "timm", "model": "tiny", "size": 6, "pretrained": True},
        {"name": "torchvision", "model": "tiny", "size": 6, "weights": "DEFAULT"},
    ):
        assert build_teacher(network, digits.spec, 0)(images(2, digits.spec.shape)).shape == (1, 2, 10)
    assert asked == [("tiny", 1, {"pretrained": True}), ("tiny", {"weights": "DEFAULT"})]


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_a_missing_library_is_named(name: str, digits: DataBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"needs {name}, which is not installed: pip install {name}"):
        build_teacher({"name": name, "model": "vit_b_16"}, digits.spec, 0)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({}, "teacher network is None, accepted: convnet, timm, torchvision"),
        ({"name": "vit"}, "teacher network is 'vit'"),
        ({"name": "convnet", "depth": 3}, "'convnet': got an unexpected keyword argument 'depth'"),
        ({"name": "timm"}, "'timm': missing a required argument: 'model'"),
        ({"name": "convnet", "widths": []}, r"widths of a convnet are \(\), accepted"),
    ],
)
def test_unusable_networks(network: dict[str, Any], message: str, digits: DataBundle) -> None:
    with pytest.raises(ConfigError, match=message):
        build_teacher(network, subset(digits, 2, 2).spec, 0)


def test_every_teacher_has_a_description() -> None:
    assert all(make.__doc__ for make in TEACHERS.values())
    check_teacher({"name": "convnet"})
