"""Schedules, training configurations, and dataclasses from JSON values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from bitspike.errors import ConfigError
from bitspike.learn import TrainConfig, learning_rate_factor
from bitspike.learn.optimizer import build_optimizer
from bitspike.options import build, override

FACTORS = {
    "cosine-start": ({"epochs": 10}, 0, 1.0),
    "cosine-half": ({"epochs": 10}, 5, 0.5),
    "cosine-end": ({"epochs": 10}, 10, 0.0),
    "warmup-start": ({"epochs": 10, "warmup_epochs": 2.0}, 0, 0.0),
    "warmup-half": ({"epochs": 10, "warmup_epochs": 2.0}, 1, 0.5),
    "warmup-end": ({"epochs": 10, "warmup_epochs": 2.0}, 2, 1.0),
    "warmup-cosine-half": ({"epochs": 10, "warmup_epochs": 2.0}, 6, 0.5),
    "warmup-cosine-end": ({"epochs": 10, "warmup_epochs": 2.0}, 10, 0.0),
    "constant-end": ({"epochs": 10, "schedule": "constant"}, 10, 1.0),
    "step-before": ({"schedule": "step", "milestones": (3.0, 6.0)}, 2.99, 1.0),
    "step-first": ({"schedule": "step", "milestones": (3.0, 6.0)}, 3, 0.1),
    "step-second": ({"schedule": "step", "milestones": (3.0, 6.0), "gamma": 0.5}, 9, 0.25),
    "all-warmup": ({"epochs": 2, "warmup_epochs": 2.0}, 2, 1.0),
}


@pytest.mark.parametrize("case", FACTORS)
def test_learning_rate_factor(case: str) -> None:
    options, epoch, expected = FACTORS[case]
    assert learning_rate_factor(epoch, TrainConfig(**options)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "constant", "step"])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 3.0])
def test_learning_rate_stays_within_its_value(schedule: str, warmup: float) -> None:
    config = TrainConfig(epochs=7, schedule=schedule, warmup_epochs=warmup, milestones=(4.0,))
    factors = [learning_rate_factor(7 * i / 7000, config) for i in range(7001)]
    assert min(factors) >= 0 and max(factors) <= 1
    assert learning_rate_factor(max(warmup - 1e-6, 0), config) <= 1, "the end of the warm-up must not overshoot"
    assert factors[0] > 0, "the first step of a warm-up must move something"
    rising = factors[: int(warmup * 1000)]
    assert rising == sorted(rising)
    assert factors[int(warmup * 1000) + 1 :] == sorted(factors[int(warmup * 1000) + 1 :], reverse=True)


BAD = {
    "optimizer": ({"optimizer": "adam"}, "optimizer is 'adam', accepted: sgd, adamw"),
    "schedule": ({"schedule": "linear"}, "schedule is 'linear', accepted: cosine, step, constant"),
    "precision": ({"precision": "8"}, "precision is '8', accepted: 32-true"),
    "epochs": ({"epochs": -1}, "epochs is -1, accepted: 0 or more"),
    "batch": ({"batch_size": 0}, "batch_size is 0, accepted: 1 or more"),
    "rate": ({"learning_rate": -0.1}, "learning_rate is -0.1"),
    "rate-nan": ({"learning_rate": float("nan")}, "learning_rate is nan"),
    "mixup": ({"mixup": -1.0}, "mixup is -1.0"),
    "smoothing": ({"label_smoothing": 1.0}, "label_smoothing is 1.0, accepted: 0 to below 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_training_configuration(case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**options)


@pytest.mark.parametrize("name, kind", [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizer_decays_weights_only(name: str, kind: type) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2))
    model[2].weight.requires_grad_(False)
    optimizer = build_optimizer(model, TrainConfig(optimizer=name, weight_decay=0.3, learning_rate=0.2, momentum=0.7))
    assert isinstance(optimizer, kind)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    named = {k: decay.get(id(p)) for k, p in model.named_parameters()}
    assert named == {"0.weight": 0.3, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "2.weight": None, "2.bias": 0.0}
    assert all(group["lr"] == 0.2 for group in optimizer.param_groups)
    if name == "sgd":
        assert all(group["momentum"] == 0.7 for group in optimizer.param_groups)


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    count: int
    name: str = "x"
    flag: bool = False
    limit: float | None = None
    sizes: tuple[int, ...] = ()
    inner: Inner = field(default_factory=Inner)
    extra: dict = field(default_factory=dict)


def test_build_converts_json_values() -> None:
    built = build(Outer, {"count": 3, "limit": 2, "sizes": [1, 2], "inner": {"rate": 1}, "extra": {"a": []}}, "run")
    assert built == Outer(3, limit=2.0, sizes=(1, 2), inner=Inner(1.0), extra={"a": []})
    assert isinstance(built.limit, float) and isinstance(built.inner.rate, float)
    assert build(Outer, {"count": 1, "limit": None}, "run").limit is None


@pytest.mark.parametrize(
    "config",
    [TrainConfig(), TrainConfig(milestones=(1.0, 2.5), augment=("crop1",), optimizer="adamw")],
    ids=["default", "changed"],
)
def test_training_configuration_round_trips(config: TrainConfig) -> None:
    import json

    assert build(TrainConfig, json.loads(json.dumps(dataclasses.asdict(config))), "train") == config


UNBUILDABLE = {
    "not-an-object": ([1], r"run is \[1\], accepted: an object"),
    "unknown": ({"count": 1, "cuont": 2}, "run has no key cuont, accepted: count, name"),
    "missing": ({}, "run needs count"),
    "type": ({"count": "3"}, "run.count is '3', accepted: int"),
    "bool-for-int": ({"count": True}, "run.count is True, accepted: int"),
    "float-for-int": ({"count": 3.5}, "run.count is 3.5, accepted: int"),
    "int-for-bool": ({"count": 1, "flag": 1}, "run.flag is 1, accepted: bool"),
    "union": ({"count": 1, "limit": "a"}, "run.limit is 'a', accepted: .*float"),
    "not-a-list": ({"count": 1, "sizes": 3}, "run.sizes is 3"),
    "list-item": ({"count": 1, "sizes": [1, "b"]}, r"run.sizes\[1\] is 'b', accepted: int"),
    "nested-unknown": ({"count": 1, "inner": {"rat": 1}}, "run.inner has no key rat, accepted: rate"),
    "nested-type": ({"count": 1, "inner": 3}, "run.inner is 3, accepted: an object"),
    "not-a-dict": ({"count": 1, "extra": []}, r"run.extra is \[\]"),
}


@pytest.mark.parametrize("case", UNBUILDABLE)
def test_build_refuses(case: str) -> None:
    values, message = UNBUILDABLE[case]
    with pytest.raises(ConfigError, match=message):
        build(Outer, values, "run")


def test_override() -> None:
    values = {"train": {"epochs": 1}, "name": "a", "stages": [{"name": "b"}, 1]}
    for assignment in (
        "stages.0.epochs=2",
        "stages.1=3",
        "train.epochs=5",
        "train.rate=1e-3",
        "name=b c",
        "new.deep.key=[1, null]",
        "flag=true",
        "text==x",
    ):
        override(values, assignment)
    assert values == {
        "train": {"epochs": 5, "rate": 1e-3}, "name": "b c", "new": {"deep": {"key": [1, None]}},
        "flag": True, "text": "=x", "stages": [{"name": "b", "epochs": 2}, 3],
    }  # fmt: skip


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("epochs", "'epochs' is not of the form key=value"),
        ("=3", "not of the form"),
        ("name.x=1", "'name' is a value"),
        ("stages.1.x=1", "'1' is no position in a list of 1"),
        ("stages.x=1", "'x' is no position in a list of 1"),
    ],
)
def test_override_refuses(assignment: str, message: str) -> None:
    values = {"name": "a", "stages": [{}]}
    with pytest.raises(ConfigError, match=message):
        override(values, assignment)
    assert values == {"name": "a", "stages": [{}]}
