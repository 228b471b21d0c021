"""What the accuracy studies share: arguments, a result file that grows row by row, one way to train."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitspike.data import DataBundle
from bitspike.learn import BatchObjective, Objective, SpikeRegulation, TrainConfig, Trainer

Hook = Callable[[nn.Module, float], None]


def parser(description: str | None) -> argparse.ArgumentParser:
    """``--seeds`` and ``--json``; a study adds its own."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--json", type=Path, required=True)
    return made


def begin(**facts: Any) -> dict[str, Any]:
    """A result without rows. From here on torch runs on one thread."""
    torch.set_num_threads(1)
    return {"command": " ".join(["python", *sys.argv]), "torch": torch.__version__, **facts, "rows": []}


def add(result: dict[str, Any], path: Path, row: dict[str, Any]) -> None:
    """One more row: into the result, onto stderr and into the file."""
    result["rows"].append(row)
    print(json.dumps(row), file=sys.stderr, flush=True)
    write(result, path)


def write(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def train(
    model: nn.Module,
    bundle: DataBundle,
    plan: TrainConfig,
    seed: int,
    objective: Objective | BatchObjective | None = None,
    *,
    on_epoch: Hook | None = None,
    on_step: Hook | None = None,
) -> nn.Module:
    """Train ``model`` in place; by the cross-entropy of every step unless ``objective`` says otherwise."""
    chosen = objective or SpikeRegulation(0.0)
    Trainer(plan, objective=chosen, on_epoch=on_epoch, on_step=on_step, seed=seed).fit(model, bundle)
    return model
