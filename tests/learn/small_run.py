"""A small training run, for tests that need it in another process: ``python small_run.py DIRECTORY [options]``.

Under torchrun the processes share the batch. Writes the final weights and history to DIRECTORY/final.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers import digits_net, subset

import bitspike
from bitspike.compress import QSNN, apply, set_training_progress
from bitspike.data import DataBundle, load
from bitspike.learn import Runtime, SpikeRegulation, TrainConfig, Trainer, save_weights
from bitspike.learn.checkpoint import write_json

TRAIN, BATCH = 96, 16


def build(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    data = load("digits")
    return apply(digits_net(data.spec, widths=(4, 6, "P", 5), T=3), QSNN(membrane_bits=4))


def data(validation: int = 24) -> DataBundle:
    return subset(load("digits"), TRAIN, validation)


def trainer(
    directory: Path | None,
    *,
    epochs: int = 3,
    delay: float = 0.0,
    seed: int = 0,
    runtime: Runtime | None = None,
    **options,
) -> Trainer:
    """Every source of randomness in use; ``delay`` seconds per batch make room for a kill."""
    regulation = SpikeRegulation(0.5)

    def objective(logits, targets, rates):
        time.sleep(delay)
        return regulation(logits, targets, rates)

    config = TrainConfig(
        **{"epochs": epochs, "batch_size": BATCH, "augment": ("crop1",), "mixup": 0.4, "warmup_epochs": 0.5} | options
    )
    return Trainer(
        config,
        objective=objective,
        on_epoch=set_training_progress,
        seed=seed,
        runtime=runtime or Runtime(accelerator="cpu"),
        directory=directory,
    )


def environment() -> dict[str, str]:
    """What a process that runs this file needs."""
    path = os.pathsep.join(
        [str(Path(bitspike.__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def without_time(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--no-checkpoints", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = build()
    shared = {"devices": args.processes, "strategy": "ddp"} if args.processes > 1 else {}
    if args.processes > 1:  # mixup pairs neighbours within a process's share, so it is left out here
        options = {"mixup": 0.0}
    else:
        options = {}
    run = trainer(
        None if args.no_checkpoints else args.directory,
        epochs=args.epochs,
        delay=args.delay,
        runtime=Runtime(accelerator="cpu", **shared),
        precision=args.precision,
        **options,
    )
    history = run.fit(model, data(0 if args.processes > 1 else 24))
    if int(os.environ.get("RANK", "0")) == 0:
        final = args.directory / "final"
        final.mkdir(parents=True, exist_ok=True)
        save_weights(final / "model.safetensors", model)
        write_json(final / "history.json", history)


if __name__ == "__main__":
    main()
