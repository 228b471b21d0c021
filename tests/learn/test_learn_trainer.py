"""The Trainer: exact resumption after any interruption, several processes as one, every option."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_run
import torch
from helpers import close, digits_net
from safetensors.torch import load_file
from torch import nn

import bitspike
from bitspike.data import DataBundle
from bitspike.errors import ConfigError
from bitspike.learn import SpikeRegulation, TrainConfig, Trainer, evaluate
from bitspike.learn.config import OPTIMIZERS, PRECISIONS

SCRIPT = Path(small_run.__file__)
SOURCE = Path(bitspike.__file__).resolve().parents[1]
FILES = ("model.safetensors", "optimizer.safetensors")


class Interrupted(BaseException):
    pass


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def without_time(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


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
    assert without_time(history) == without_time(whole[1])
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


OPTIONS = {
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "bf16": {"precision": "bf16-mixed"},
    "float64": {"precision": "64-true"},
}


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
    assert without_time(parts) == without_time(whole)
    for file in FILES:
        one, other = (tmp_path / name / "epoch-0002" / file for name in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes(), file


@pytest.mark.slow
def test_killed_process_resumes_to_the_same_bytes(tmp_path: Path, uninterrupted) -> None:
    """SIGKILL somewhere in the second or third epoch; nothing but the running epoch is lost."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path), "--delay", "0.15"], env=environment(), stderr=subprocess.DEVNULL
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


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor], list[dict]]:
    """(folder of the two-process run, state of the single-process run, history of the latter), both in float64."""
    directory = tmp_path_factory.mktemp("two")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(SCRIPT),
        str(directory),
    ]
    options = ["--epochs", "1", "--precision", "64-true", "--processes", "2", "--no-checkpoints"]
    done = subprocess.run([*command, *options], env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    model = small_run.build()
    history = small_run.trainer(None, epochs=1, precision="64-true", mixup=0.0).fit(model, small_run.data(0))
    return directory / "final", model.state_dict(), history


@pytest.mark.slow
def test_two_processes_train_like_one(two_processes) -> None:
    """Six steps on halves of each batch: weights, batch-norm statistics, membrane ranges; with spike regulation."""
    folder, alone, _ = two_processes
    shared = load_file(folder / "model.safetensors")
    initial = small_run.build().state_dict()
    assert shared.keys() == alone.keys()
    for key, value in alone.items():
        assert shared[key].dtype == value.dtype
        torch.testing.assert_close(shared[key], value, rtol=1e-8, atol=1e-8, msg=lambda m, key=key: f"{key}: {m}")
        if value.is_floating_point() and "alpha" not in key and "bias" not in key:
            assert not torch.allclose(value.double(), initial[key].double(), atol=1e-6), f"{key} did not move"


@pytest.mark.slow
def test_two_processes_report_the_whole_batch(two_processes) -> None:
    folder, _, alone = two_processes
    (shared,) = json.loads((folder / "history.json").read_text())
    for key in ("loss", "accuracy", "firing_rate", "learning_rate"):
        assert shared[key] == pytest.approx(alone[0][key], rel=1e-6), key


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p != "16-mixed"])  # fp16 training is for GPUs
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_and_precision(optimizer: str, precision: str) -> None:
    model, data = small_run.build(), small_run.data()
    before = {k: v.clone() for k, v in model.named_parameters()}
    options = {"optimizer": optimizer, "precision": precision, "learning_rate": 0.1 if optimizer == "sgd" else 0.01}
    (record,) = small_run.trainer(None, epochs=1, **options).fit(model, data)
    assert all(v.isfinite().all() and not torch.equal(v, before[k]) for k, v in model.named_parameters())
    assert 0 < record["loss"] < 10 and 0 < record["firing_rate"] < 1
    assert {
        "epoch",
        "loss",
        "accuracy",
        "firing_rate",
        "learning_rate",
        "seconds",
        "validation_accuracy",
        "validation_loss",
    } <= record.keys()


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_model_can_be_evaluated_after_training(precision: str) -> None:
    model, data = small_run.build(), small_run.data()
    small_run.trainer(None, epochs=1, precision=precision).fit(model, data)
    assert evaluate(model, data.test).samples == 24


def test_training_learns(digits: DataBundle) -> None:
    torch.manual_seed(0)
    model = digits_net(digits.spec, widths=(8, "P", 16), T=2)
    history = Trainer(TrainConfig(epochs=3, batch_size=32), seed=0).fit(model, digits)
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["validation_accuracy"] > 0.7
    assert evaluate(model, digits.validation).accuracy == pytest.approx(history[-1]["validation_accuracy"])


def test_same_seed_same_run_other_seed_other_run() -> None:
    def run(seed: int) -> list[dict]:
        torch.manual_seed(seed + 17)  # the global state must not matter
        model = small_run.build()
        torch.manual_seed(seed + 18)
        return without_time(small_run.trainer(None, epochs=1, seed=seed).fit(model, small_run.data()))

    assert run(0) == run(0) != run(1)


def test_global_random_state_does_not_matter() -> None:
    results = []
    for noise in (1, 2):
        model = small_run.build()
        torch.manual_seed(noise)
        results.append(without_time(small_run.trainer(None, epochs=1).fit(model, small_run.data())))
    assert results[0] == results[1]


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
    assert without_time(history) == without_time(expected)


def test_no_directory_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_run.trainer(None, epochs=1).fit(small_run.build(), small_run.data())
    assert list(tmp_path.iterdir()) == []


def test_hooks_and_logger_see_every_epoch() -> None:
    progress, logged = [], []
    config = TrainConfig(epochs=4, batch_size=48)
    trainer = Trainer(
        config,
        on_epoch=lambda model, p: progress.append(p),
        logger=lambda epoch, record: logged.append((epoch, record["learning_rate"])),
    )
    trainer.fit(small_run.build(), small_run.data(0))
    assert progress == [0, 0.25, 0.5, 0.75]
    assert [e for e, _ in logged] == [0, 1, 2, 3] and [r for _, r in logged] == pytest.approx(
        [0.1, 0.085355, 0.05, 0.014645], abs=1e-5
    )


def test_zero_epochs() -> None:
    model = small_run.build()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert small_run.trainer(None, epochs=0).fit(model, small_run.data()) == []
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 97, accepted: at most the 96 training samples"):
        small_run.trainer(None, epochs=1, batch_size=97).fit(small_run.build(), small_run.data())


def test_gradient_clip_bounds_the_step() -> None:
    """One plain SGD step moves the weights by at most learning rate times the allowed norm."""
    options = {
        "epochs": 1,
        "batch_size": 96,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "warmup_epochs": 0.0,
        "learning_rate": 1.0,
    }
    moved = {}
    for clip in (0.0, 1e-2):
        model = small_run.build()
        before = [p.detach().clone() for p in model.parameters()]
        small_run.trainer(None, gradient_clip=clip, **options).fit(model, small_run.data(0))
        moved[clip] = (
            torch.stack([(p - b).norm() for p, b in zip(model.parameters(), before, strict=True)]).norm().item()
        )
    assert moved[0.0] > 0.02 and moved[1e-2] == pytest.approx(1e-2, rel=1e-2)


def test_records_are_means_over_the_epoch() -> None:
    """At learning rate zero the weights stand still, so the epoch's means can be computed directly."""
    model, data = small_run.build(), small_run.data(0)
    objective = SpikeRegulation(0.0)
    options = TrainConfig(epochs=1, batch_size=96, learning_rate=0.0, weight_decay=0.0)
    (record,) = Trainer(options, objective=objective).fit(model, data)
    twin = small_run.build().train()
    logits = twin(torch.from_numpy(data.train.inputs))
    labels = torch.from_numpy(data.train.labels)
    assert record["loss"] == pytest.approx(objective(logits, labels, []).item(), rel=1e-3)
    assert record["accuracy"] == pytest.approx((logits.mean(0).argmax(1) == labels).float().mean().item(), abs=0.05)


@pytest.mark.parametrize("batch_size", [1, 7, 24, 500])
def test_evaluation_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    from bitspike.compress import freeze_membranes

    model, data = freeze_membranes(small_run.build()), small_run.data()
    expected, actual = evaluate(model, data.test, 24), evaluate(model, data.test, batch_size)
    assert actual.accuracy == expected.accuracy and actual.loss == pytest.approx(expected.loss, rel=1e-5)
    assert actual.layer_rates == pytest.approx(expected.layer_rates, rel=1e-5)
    assert actual.firing_rate == pytest.approx(sum(actual.layer_rates.values()) / len(actual.layer_rates))


def test_evaluation_restores_the_mode_of_every_module() -> None:
    model, data = small_run.build().train(), small_run.data()
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, data.test)
    assert model.training and not frozen.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_evaluation_of_an_empty_split() -> None:
    result = evaluate(small_run.build(), small_run.data(0).test)
    assert (result.samples, result.accuracy, result.loss) == (0, 0.0, 0.0)


def test_evaluation_counts_by_hand() -> None:
    model, data = small_run.build().eval(), small_run.data()
    result = evaluate(model, data.test)
    with torch.no_grad():
        logits = model(torch.from_numpy(data.test.inputs))
    labels = torch.from_numpy(data.test.labels)
    assert result.accuracy == (logits.sum(0).argmax(1) == labels).sum().item() / 24
    close(torch.tensor(result.loss), nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(3)))
    assert dataclasses.is_dataclass(result)
