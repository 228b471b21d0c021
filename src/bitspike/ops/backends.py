"""The one place that decides what runs a neuron: a fused kernel of the tensor's device, or the reference.

A backend says, for tensors of one type of device and one type of program, what it refuses and why, and runs the rest. The
reference in ``ops.membrane``, ``ops.stepping`` and ``ops.temporal`` defines the results, runs whatever has no kernel, and
can be asked for with :func:`reference_only`. :func:`choose` tells which it would be; nothing falls back without a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .programs import Program

__all__ = ["Backend", "Choice", "choose", "reference_only", "register_backend", "run"]

REFERENCE = "reference"


@dataclass(frozen=True)
class Backend:
    """Kernels for one type of device and program.

    refusal(current, program): why it cannot run, None where it can. run(current, program): spikes (T, N, ...) for
    ``current`` (T, N, ...), differentiable with respect to the current and the program's tensors.
    """

    name: str
    refusal: Callable[[Tensor, Any], str | None]
    run: Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Choice:
    """What runs a neuron: the name of a backend, or "reference" and the ``reason`` why no backend does."""

    name: str
    reason: str = ""
    run: Callable[[Tensor, Any], Tensor] | None = None


BACKENDS: dict[tuple[str, type], Backend] = {}
_forced = [0]  # how many reference_only() blocks are open


def register_backend(device: str, program: type, backend: Backend) -> None:
    """Make ``backend`` run programs of type ``program`` on tensors of the device type ``device``, "cpu" or "cuda"."""
    BACKENDS[device, program] = backend


@contextmanager
def reference_only() -> Iterator[None]:
    """Inside the ``with`` block, in all threads, every neuron runs on the reference."""
    _forced[0] += 1
    try:
        yield
    finally:
        _forced[0] -= 1


def choose(current: Tensor, program: Program | str) -> Choice:
    """What runs ``program`` on ``current`` (T, N, ...); ``program`` may also be the reason why there is none."""
    if isinstance(program, str):
        return Choice(REFERENCE, program)
    if _forced[0]:
        return Choice(REFERENCE, "reference_only() is in force")
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return Choice(REFERENCE, "a graph is exported, in which other tools know torch's own operators only")
    backend = BACKENDS.get((current.device.type, type(program)))
    if backend is None:
        return Choice(REFERENCE, f"there is no kernel for {current.device.type}")
    reason = backend.refusal(current, program)
    return Choice(backend.name, run=backend.run) if reason is None else Choice(REFERENCE, reason)


def run(current: Tensor, program: Program | str, reference: Callable[[], Tensor]) -> Tensor:
    """Outputs (T, N, ...) of ``program`` for ``current`` (T, N, ...), from what :func:`choose` names."""
    chosen = choose(current, program)
    return reference() if chosen.run is None else chosen.run(current, program)
