"""A run that is interrupted and resumed ends as the uninterrupted one, to the byte."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_run
import torch
from safetensors.torch import load_file

from bitspike.learn import Trainer

OPTIONS = {
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "bf16": {"precision": "bf16-mixed"},
    "float64": {"precision": "64-true"},
}
FILES = ("model.safetensors", "optimizer.safetensors")


class Interrupted(BaseException):
    pass


def interrupt_in(epoch: int, batch: int):
    """An ``on_epoch`` and objective wrapper that stop the run within an epoch."""
    seen = {"epoch": -1, "batch": 0}

    def wrap(trainer: Trainer) -> Trainer:
        inner_epoch, inner_objective = trainer.on_epoch, trainer.objective

        def on_epoch(model, progress):
            seen["epoch"] += 1
            seen["batch"] = 0
            inner_epoch(model, progress)

        def objective(logits, targets, rates):
            seen["batch"] += 1
            if (seen["epoch"], seen["batch"]) == (epoch, batch):
                raise Interrupted
            return inner_objective(logits, targets, rates)

        trainer.on_epoch, trainer.objective = on_epoch, objective
        return trainer

    return wrap


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    directory = tmp_path_factory.mktemp("whole")
    return directory, small_run.trainer(directory).fit(small_run.build(), small_run.data())


def assert_same_run(directory: Path, history: list[dict], whole: tuple[Path, list[dict]]) -> None:
    assert small_run.without_time(history) == small_run.without_time(whole[1])
    for file in FILES:
        assert (directory / "epoch-0002" / file).read_bytes() == (whole[0] / "epoch-0002" / file).read_bytes(), file


@pytest.mark.parametrize("epoch, batch", [(1, 1), (1, 4), (2, 6)], ids=["first-batch", "mid-epoch", "last-batch"])
def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path, uninterrupted, epoch: int, batch: int) -> None:
    with pytest.raises(Interrupted):
        interrupt_in(epoch, batch)(small_run.trainer(tmp_path)).fit(small_run.build(), small_run.data())
    model = small_run.build(seed=5)  # resuming must overwrite whatever the fresh model holds
    torch.manual_seed(99)
    history = small_run.trainer(tmp_path).fit(model, small_run.data(), resume=True)
    assert_same_run(tmp_path, history, uninterrupted)
    stored = load_file(tmp_path / "epoch-0002" / "model.safetensors")
    assert all(torch.equal(v, stored[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("case", OPTIONS)
def test_resumed_run_with_other_options(tmp_path: Path, case: str) -> None:
    """Interrupted in the second and in the third epoch, by a fresh model and optimizer each time."""
    data = small_run.data(0)
    whole = small_run.trainer(tmp_path / "whole", **OPTIONS[case]).fit(small_run.build(), data)
    for seed, epoch in enumerate((1, 1)):  # counted from the epoch that the part begins with
        with pytest.raises(Interrupted):
            interrupt_in(epoch, 2)(small_run.trainer(tmp_path / "parts", **OPTIONS[case])).fit(
                small_run.build(seed), data, resume=True
            )
    parts = small_run.trainer(tmp_path / "parts", **OPTIONS[case]).fit(small_run.build(7), data, resume=True)
    assert small_run.without_time(parts) == small_run.without_time(whole)
    for file in FILES:
        one, other = (tmp_path / name / "epoch-0002" / file for name in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes(), file


@pytest.mark.slow
def test_killed_process_resumes_to_the_same_bytes(tmp_path: Path, uninterrupted) -> None:
    """SIGKILL somewhere in the second or third epoch; nothing but the running epoch is lost."""
    process = subprocess.Popen(
        [sys.executable, small_run.__file__, str(tmp_path), "--delay", "0.15"],
        env=small_run.environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 90
        while not (tmp_path / "latest.json").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
    assert json.loads((tmp_path / "latest.json").read_text()) == {"checkpoint": "epoch-0000"}
    history = small_run.trainer(tmp_path).fit(small_run.build(seed=3), small_run.data(), resume=True)
    assert_same_run(tmp_path, history, uninterrupted)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-0002", "latest.json"]


def test_finished_run_is_returned_at_once(tmp_path: Path) -> None:
    model = small_run.build()
    history = small_run.trainer(tmp_path, epochs=1).fit(model, small_run.data())
    again = small_run.build(seed=9)
    assert (
        interrupt_in(0, 1)(small_run.trainer(tmp_path, epochs=1)).fit(again, small_run.data(), resume=True) == history
    )
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_resume_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    assert len(small_run.trainer(tmp_path / "new", epochs=1).fit(small_run.build(), small_run.data(), resume=True)) == 1


def test_fresh_run_does_not_leave_an_old_checkpoint_to_resume_from(tmp_path: Path) -> None:
    """A new run in an old folder, interrupted in its first epoch: resuming must not bring the old run back."""
    small_run.trainer(tmp_path, epochs=1, learning_rate=0.3).fit(small_run.build(), small_run.data())
    with pytest.raises(Interrupted):
        interrupt_in(0, 3)(small_run.trainer(tmp_path, epochs=1)).fit(small_run.build(), small_run.data())
    history = small_run.trainer(tmp_path, epochs=1).fit(small_run.build(), small_run.data(), resume=True)
    expected = small_run.trainer(None, epochs=1).fit(small_run.build(), small_run.data())
    assert small_run.without_time(history) == small_run.without_time(expected)
