"""Choosing kernels by measuring them: every layer is timed with every family on one sample.

The choice changes time only, never a bit, so it may be kept beside a machine and forgotten at will.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigError
from .network import Network, kernel_families, load

__all__ = ["autotune", "cache_folder"]


def autotune(
    source: str | os.PathLike[str] | bytes,
    x: ArrayLike | None = None,
    *,
    level: str | None = None,
    repeats: int = 50,
    cache: bool = True,
) -> dict[str, str]:
    """Fastest family for every layer of an artifact, as :func:`bitspike.engine.load` takes it (``kernels=``).

    ``x`` is one typical sample (firing rates decide between families); without it the artifact's first test vector is
    used, or noise if it has none. With ``cache`` the answer is read from, and written to, :func:`cache_folder`, by file,
    level and processor. Errors as for ``load``.
    """
    if repeats < 1:
        raise ConfigError(f"repeats are {repeats}, accepted: at least 1")
    data = source if isinstance(source, bytes) else Path(source).read_bytes() if os.path.isfile(source) else None
    networks = {family: load(data or source, level=level, kernels=family) for family in kernel_families()}
    first = next(iter(networks.values()))
    key = hashlib.sha256((data or b"") + first.level.encode() + _processor().encode()).hexdigest()[:32]
    kept = cache_folder() / f"{key}.json"
    if cache and x is None and (remembered := _read(kept, list(first.kernels))):
        return remembered
    sample = np.asarray(first.example() if x is None else x)
    times = {family: network.profile(sample, repeats=repeats) for family, network in networks.items()}
    readers = _readers(first)
    choice = {
        # A family that cannot compute a layer is not timed for it: what ran there was something else.
        name: min(
            (f for f in networks if networks[f].kernels[name] == f),
            key=lambda f: sum(times[f][reader] for reader in readers[name]),
        )
        for name in first.kernels
    }
    if cache and x is None:
        _write(kept, choice)
    return choice


def cache_folder() -> Path:
    """Folder of remembered choices: ``$XDG_CACHE_HOME/bitspike/kernels``, else below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitspike" / "kernels"


def _readers(network: Network) -> dict[str, list[str]]:
    """Nodes by name that read each layer; its time is part of theirs."""
    sources = network.sources
    names = network.names
    return {name: [names[i] for i, read in enumerate(sources) if names.index(name) in read] for name in network.kernels}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _read(path: Path, names: list[str]) -> dict[str, str]:
    """The choice that was written for these layers; empty where there is none, or it is damaged."""
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    whole = isinstance(stored, dict) and all(stored.get(name) in kernel_families() for name in names)
    return {name: stored[name] for name in names} if whole else {}


def _write(path: Path, choice: dict[str, str]) -> None:
    """Atomically, and not at all where the folder cannot be written: it only saves time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(choice, file, indent=1)
        os.replace(file.name, path)
    except OSError:
        return
