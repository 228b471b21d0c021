"""Checkpoints: safetensors and JSON, written so that a process killed at any moment leaves a readable one.

``directory/latest.json`` names the newest complete ``epoch-NNNN`` folder and is replaced atomically, after the
folder's files are on disk.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import BitspikeError

__all__ = ["load_checkpoint", "load_weights", "save_checkpoint", "save_weights", "write_json"]


def save_checkpoint(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write ``model``, ``optimizer`` and the JSON ``state`` (with ``state["epoch"]``) and make them the latest."""
    name = f"epoch-{state['epoch']:04d}"
    while (directory / name).exists():  # never remove what latest.json may name before the new one is in place
        name += "-again"
    partial = directory / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_weights(partial / "model.safetensors", model)
    tensors, scalars = _flatten(optimizer)
    save_file(tensors, partial / "optimizer.safetensors")
    for file in partial.iterdir():  # on disk before anything names them
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    write_json(partial / "state.json", state | {"optimizer": scalars, "optimizer_type": type(optimizer).__name__})
    final = directory / name
    os.replace(partial, final)
    write_json(directory / "latest.json", {"checkpoint": name})
    for old in directory.glob("epoch-*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> dict[str, Any] | None:
    """Load the latest checkpoint into ``model`` and ``optimizer``; returns its state, None where there is none.

    Raises BitspikeError naming the file that is damaged.
    """
    pointer = directory / "latest.json"
    if not pointer.exists():
        return None
    folder = directory / str(_read_json(pointer).get("checkpoint"))
    load_weights(folder / "model.safetensors", model)
    state = _read_json(folder / "state.json")
    try:
        scalars, kind = state.pop("optimizer"), state.pop("optimizer_type")
        if optimizer is not None and kind != type(optimizer).__name__:
            raise BitspikeError(f"{folder / 'state.json'} is of the optimizer {kind}, not {type(optimizer).__name__}")
        if optimizer is not None:
            _restore(optimizer, _load_tensors(folder / "optimizer.safetensors"), scalars)
        return {"epoch": state["epoch"], "history": state["history"], **state}
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BitspikeError(f"{folder / 'state.json'} is damaged: {error!r}") from None


def discard_checkpoints(directory: Path) -> None:
    """Forget the checkpoints of an earlier run in ``directory``, so that nothing resumes from them."""
    (directory / "latest.json").unlink(missing_ok=True)
    for folder in directory.glob("epoch-*"):
        shutil.rmtree(folder, ignore_errors=True)


def save_weights(path: Path, model: nn.Module) -> None:
    """Atomically write the state dict of ``model`` (parameters and buffers)."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    partial = path.with_name(f".{path.name}.partial")
    save_file(_unshared(tensors), partial)
    os.replace(partial, path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load a state dict into ``model``. Raises BitspikeError naming the file and what does not fit."""
    try:
        model.load_state_dict(_load_tensors(path))
    except RuntimeError as error:
        raise BitspikeError(f"{path} does not fit the model: {str(error).splitlines()[-1].strip()}") from None


def write_json(path: Path, value: Any) -> None:
    """Atomically write ``value`` as JSON."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share memory; copy repeats."""
    seen: set[int] = set()
    out = {}
    for key, tensor in tensors.items():
        out[key] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return out


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BitspikeError(f"{path} cannot be read: {error}") from None
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BitspikeError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BitspikeError(f"{path} holds a JSON {type(value).__name__}, accepted: an object")
    return value


def _flatten(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Optimizer state by parameter position: tensors as "position.name", other values likewise for JSON."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for position, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{position}.{name}"] = value.detach().cpu().contiguous()
            else:
                scalars[f"{position}.{name}"] = value
    return tensors, scalars


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    parameters = sum(len(group["params"]) for group in optimizer.param_groups)
    for key, value in (tensors | scalars).items():
        position, _, name = key.partition(".")
        if not position.isdecimal() or int(position) >= parameters:
            raise KeyError(f"optimizer state {key!r} for {parameters} parameters")
        state.setdefault(int(position), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
