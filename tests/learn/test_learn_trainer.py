"""The Trainer: exact resumption after any interruption, several processes as one, every option."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import small_run
import torch
from helpers import close, digits_net
from safetensors.torch import load_file
from torch import nn

from bitspike.data import DataBundle
from bitspike.errors import ConfigError
from bitspike.learn import SpikeRegulation, TrainConfig, Trainer, evaluate
from bitspike.learn.config import OPTIMIZERS, PRECISIONS


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
        small_run.__file__,
        str(directory),
    ]
    options = ["--epochs", "1", "--precision", "64-true", "--processes", "2", "--no-checkpoints"]
    done = subprocess.run(
        [*command, *options], env=small_run.environment(), capture_output=True, text=True, timeout=240
    )
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
        return small_run.without_time(small_run.trainer(None, epochs=1, seed=seed).fit(model, small_run.data()))

    assert run(0) == run(0) != run(1)


def test_global_random_state_does_not_matter() -> None:
    results = []
    for noise in (1, 2):
        model = small_run.build()
        torch.manual_seed(noise)
        results.append(small_run.without_time(small_run.trainer(None, epochs=1).fit(model, small_run.data())))
    assert results[0] == results[1]


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
