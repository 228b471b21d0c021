"""Checkpoints survive a process that dies at any point, and damaged ones are refused by name."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bitspike.errors import BitspikeError
from bitspike.learn import TrainConfig, checkpoint, load_checkpoint, load_weights, save_checkpoint, save_weights
from bitspike.learn.optimizer import build_optimizer


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it and go on."""


def network(seed: int, optimizer: str = "sgd", width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network after two steps, so that the optimizer has state."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))
    optim = build_optimizer(model, TrainConfig(optimizer=optimizer))
    for _ in range(2):
        optim.zero_grad()
        model(torch.randn(5, 4)).square().sum().backward()
        optim.step()
    return model, optim


def state(epoch: int) -> dict:
    return {"epoch": epoch, "history": [{"epoch": e, "loss": 0.1 * e} for e in range(epoch + 1)]}


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_round_trip_continues_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    model, optim = network(0, optimizer)
    save_checkpoint(tmp_path, model, optim, state(4))
    fresh, fresh_optim = network(1, optimizer)
    assert load_checkpoint(tmp_path, fresh, fresh_optim) == state(4)
    assert same(model, fresh)
    for m, o in ((model, optim), (fresh, fresh_optim)):
        o.zero_grad()
        m(torch.ones(5, 4) + torch.eye(5, 4)).square().sum().backward()
        o.step()
    assert same(model, fresh)


def test_only_plain_files_and_only_the_latest_remain(tmp_path: Path) -> None:
    for epoch in range(3):
        save_checkpoint(tmp_path, *network(epoch), state(epoch))
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "epoch-0002/model.safetensors", "epoch-0002/optimizer.safetensors", "epoch-0002/state.json", "latest.json",
    ]  # fmt: skip


def test_nothing_saved_yet(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, *network(0)) is None
    assert load_checkpoint(tmp_path / "absent", *network(0)) is None


def test_load_without_optimizer(tmp_path: Path) -> None:
    model, optim = network(0)
    save_checkpoint(tmp_path, model, optim, state(0))
    fresh = network(1)[0]
    assert load_checkpoint(tmp_path, fresh, None) == state(0) and same(model, fresh)


FUNCTIONS = {"os.replace": os, "save_file": checkpoint, "os.fsync": os, "shutil.rmtree": checkpoint.shutil}


def die_at(monkeypatch: pytest.MonkeyPatch, function: str, call: int, *, after: bool) -> list[int]:
    """Kill the process at the ``call``-th use of ``function``, before or after it did its work."""
    owner, name = FUNCTIONS[function], function.split(".")[-1]
    real, calls = getattr(owner, name), [0]

    def replacement(*args, **kwargs):
        calls[0] += 1
        if calls[0] != call:
            return real(*args, **kwargs)
        if after:
            real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(owner, name, replacement)
    return calls


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "function, call",
    [
        (f, c)
        for f, n in (("os.replace", 4), ("save_file", 2), ("os.fsync", 2), ("shutil.rmtree", 3))
        for c in range(1, n + 1)
    ],
)
@pytest.mark.parametrize("epoch", [0, 1, 2], ids=["first-save", "next-epoch", "same-epoch-again"])
def test_killed_at_any_point_of_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int, after: bool, epoch: int
) -> None:
    """A readable checkpoint remains: the old one or the new one, whole; then saving works again."""
    old, new = network(0), network(1)
    if epoch > 0:
        save_checkpoint(tmp_path, *old, state(1))
    number = {0: 0, 1: 2, 2: 1}[epoch]
    with monkeypatch.context() as patch:
        die_at(patch, function, call, after=after)
        with contextlib.suppress(Killed):
            save_checkpoint(tmp_path, *new, state(number))
    fresh = network(2)
    loaded = load_checkpoint(tmp_path, *fresh)
    if loaded is None:
        assert epoch == 0
    else:
        assert (same(fresh[0], new[0]) and loaded == state(number)) or (
            epoch > 0 and same(fresh[0], old[0]) and loaded == state(1)
        )
    save_checkpoint(tmp_path, *new, state(3))
    assert load_checkpoint(tmp_path, *fresh) == state(3) and same(fresh[0], new[0])


def test_partial_folder_is_never_taken_for_a_checkpoint(tmp_path: Path) -> None:
    model, optim = network(0)
    save_checkpoint(tmp_path, model, optim, state(0))
    for name in (".epoch-0001.partial", "epoch-0007"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half a fi")
    fresh = network(1)
    assert load_checkpoint(tmp_path, *fresh) == state(0) and same(fresh[0], model)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def edit(**changes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))

    return change


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "model-cut": ("epoch-0004/model.safetensors", cut),
    "model-empty": ("epoch-0004/model.safetensors", lambda p: p.write_bytes(b"")),
    "model-garbage": ("epoch-0004/model.safetensors", lambda p: p.write_bytes(os.urandom(300))),
    "model-gone": ("epoch-0004/model.safetensors", Path.unlink),
    "model-is-a-folder": ("epoch-0004/model.safetensors", lambda p: (p.unlink(), p.mkdir())),
    "optimizer-cut": ("epoch-0004/optimizer.safetensors", cut),
    "optimizer-gone": ("epoch-0004/optimizer.safetensors", Path.unlink),
    "state-cut": ("epoch-0004/state.json", cut),
    "state-list": ("epoch-0004/state.json", lambda p: p.write_text("[]")),
    "state-not-text": ("epoch-0004/state.json", lambda p: p.write_bytes(b"\xff\xfe\0")),
    "state-gone": ("epoch-0004/state.json", Path.unlink),
    "state-without-optimizer": ("epoch-0004/state.json", edit(optimizer=None)),
    "state-bad-position": ("epoch-0004/state.json", edit(optimizer={"zero": 3})),
    "latest-cut": ("latest.json", cut),
    "latest-empty": ("latest.json", lambda p: p.write_text("")),
    "latest-number": ("latest.json", lambda p: p.write_text("3")),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(tmp_path: Path, case: str) -> None:
    save_checkpoint(tmp_path, *network(0), state(4))
    name, damage = DAMAGE[case]
    damage(tmp_path / name)
    with pytest.raises(BitspikeError, match=Path(name).name):
        load_checkpoint(tmp_path, *network(1))


@pytest.mark.parametrize("value", ["epoch-0009", 3, None], ids=str)
def test_pointer_to_nothing_is_named(tmp_path: Path, value: object) -> None:
    save_checkpoint(tmp_path, *network(0), state(4))
    (tmp_path / "latest.json").write_text(json.dumps({"checkpoint": value}))
    with pytest.raises(BitspikeError, match=str(tmp_path)):
        load_checkpoint(tmp_path, *network(1))


def test_weights_of_another_model_are_refused_and_named(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", network(0)[0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(BitspikeError, match=r"a\.safetensors does not fit the model"):
        load_weights(tmp_path / "a.safetensors", network(0, width=5)[0])
    with pytest.raises(BitspikeError, match=r"a\.safetensors does not fit the model"):
        load_weights(tmp_path / "a.safetensors", nn.Linear(4, 3))


def test_optimizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """Same weights, but the checkpoint's optimizer knows parameters that this one does not have."""
    save_checkpoint(tmp_path, *network(0), state(0))
    model, _ = network(1)
    with pytest.raises(BitspikeError, match="optimizer"):
        load_checkpoint(tmp_path, model, torch.optim.SGD([model[0].weight], lr=0.1, momentum=0.9))


def test_optimizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *network(0, "sgd"), state(0))
    with pytest.raises(BitspikeError, match="SGD"):
        load_checkpoint(tmp_path, *network(1, "adamw"))


def test_shared_parameters_can_be_saved(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    save_weights(tmp_path / "w.safetensors", model)
    fresh = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    load_weights(tmp_path / "w.safetensors", fresh)
    assert torch.equal(fresh[0].weight, model[0].weight) and torch.equal(fresh[1].weight, model[0].weight)
