"""Neurons that carry something from step to step: one advance, scanned over time.

An advance takes the current (N, ...) of a step and what is carried (None at the start), and gives the membrane that is
decided on, the output (N, ...), and what is carried to the next step::

    integer    u = leak * c + x        s = fire(u)                  c = store(u - s)
    ternary    u = leak * c + x        s = [u > v] - [u < -v]       c = store(reset(u, s))
    adaptive   u = leak * c + x        s = [u > v + strength * a]   c = store(reset(u, s))
               a = decay * a + (1 - decay) * s
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .membrane import Leak, Reset, Store
from .surrogate import Surrogate, spike

__all__ = [
    "Advance",
    "adaptive_advance",
    "integer_advance",
    "scan_membranes",
    "scan_outputs",
    "ternary_advance",
    "ternary_hard_reset",
    "ternary_soft_reset",
]

Advance = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor]]
TernaryReset = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def scan_outputs(current: Tensor, advance: Advance) -> Tensor:
    """Outputs (T, N, ...) for ``current`` (T, N, ...), from rest."""
    return _scan(current, advance, 1)


def scan_membranes(current: Tensor, advance: Advance) -> Tensor:
    """Membranes (T, N, ...) that the outputs of :func:`scan_outputs` are decided on."""
    return _scan(current, advance, 0)


def integer_advance(fire: Callable[[Tensor], Tensor], leak: Leak, detach_reset: bool, store: Store | None) -> Advance:
    """``fire`` maps membranes to integers, which are what is taken off the membrane."""

    def advance(current: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        membrane = _charge(current, carry, leak)
        fired = fire(membrane)
        return membrane, fired, _keep(membrane - (fired.detach() if detach_reset else fired), store)

    return advance


def ternary_hard_reset(membrane: Tensor, up: Tensor, down: Tensor, threshold: float) -> Tensor:
    """0 where a spike of either sign was fired."""
    return (1 - up - down) * membrane


def ternary_soft_reset(membrane: Tensor, up: Tensor, down: Tensor, threshold: float) -> Tensor:
    """The threshold is taken off, with the sign of the spike."""
    return membrane - threshold * (up - down)


def ternary_advance(
    threshold: float, surrogate: Surrogate, leak: Leak, reset: TernaryReset, detach_reset: bool, store: Store | None
) -> Advance:
    """Spikes -1, 0 and 1: one step function at each of the two thresholds, each with the surrogate's derivative."""

    def advance(current: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        membrane = _charge(current, carry, leak)
        up, down = spike(membrane - threshold, surrogate), spike(-membrane - threshold, surrogate)
        seen = (up.detach(), down.detach()) if detach_reset else (up, down)
        return membrane, up - down, _keep(reset(membrane, *seen, threshold), store)

    return advance


def adaptive_advance(
    threshold: float,
    strength: float,
    decay: float,
    surrogate: Surrogate,
    leak: Leak,
    reset: Reset,
    detach_reset: bool,
    store: Store | None,
) -> Advance:
    """The threshold rises with the neuron's own spikes; carried are membrane and adaptation (2, N, ...)."""

    def advance(current: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        charge, adaptation = (None, torch.zeros_like(current)) if carry is None else carry.unbind(0)
        membrane = _charge(current, charge, leak)
        raised = threshold + strength * adaptation
        spikes = spike(membrane - raised, surrogate)
        rest = reset(membrane, spikes.detach() if detach_reset else spikes, raised)
        adaptation = decay * adaptation + (1 - decay) * spikes
        return membrane, spikes, torch.stack([_keep(rest, store), adaptation])

    return advance


def _scan(current: Tensor, advance: Advance, which: int) -> Tensor:
    values, carry = [], None
    for x in current.unbind(0):
        *shown, carry = advance(x, carry)
        values.append(shown[which])
    return torch.stack(values) if values else torch.empty_like(current)


def _charge(current: Tensor, carry: Tensor | None, leak: Leak) -> Tensor:
    return current if carry is None else leak(carry) + current


def _keep(rest: Tensor, store: Store | None) -> Tensor:
    return rest if store is None else store(rest)
