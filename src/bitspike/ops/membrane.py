"""Leaky integrate-and-fire membranes: one step, and the scan over time that defines every faster kernel.

For each step, with the carried membrane c (0 at the start) and input current x::

    u = leak(c) + gain * x
    s = 1 if u - threshold > 0 else 0
    c = store(temporal(reset(u, s)))

``store`` is the identity or a membrane quantizer: the spike is decided on the full u, only what is carried to the
next step is low-bit. ``temporal`` changes gradients only: whether they flow back to earlier steps. ``fire`` decides the
spike: ``spike`` as above, or ``reach``, with >= for >.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .quantize import floor_ste
from .surrogate import Surrogate, Triangle, spike

__all__ = [
    "LifRule",
    "MultiplicativeLeak",
    "full_gradient",
    "hard_reset",
    "lif_membranes",
    "lif_scan",
    "lif_step",
    "multiplicative_leak",
    "shift_leak",
    "soft_reset",
    "spatial_gradient",
]

Leak = Callable[[Tensor], Tensor]
Reset = Callable[[Tensor, Tensor, float | Tensor], Tensor]
Temporal = Callable[[Tensor], Tensor]
Store = Callable[[Tensor], Tensor]
Fire = Callable[[Tensor, Surrogate], Tensor]


@dataclass(frozen=True)
class MultiplicativeLeak:
    """c -> factor * c."""

    factor: float | Tensor

    def __call__(self, carry: Tensor) -> Tensor:
        return self.factor * carry


def multiplicative_leak(factor: float | Tensor) -> Leak:
    """c -> factor * c."""
    return MultiplicativeLeak(factor)


def shift_leak(shift: int, step: float = 1.0) -> Leak:
    """c -> c - floor(c / 2^shift) on the grid of multiples of ``step``: the integer rule c - (c >> shift)."""
    return lambda carry: carry - floor_ste(carry / step / 2**shift) * step


def hard_reset(membrane: Tensor, spikes: Tensor, threshold: float | Tensor) -> Tensor:
    """0 where a spike was fired."""
    return (1 - spikes) * membrane


def soft_reset(membrane: Tensor, spikes: Tensor, threshold: float | Tensor) -> Tensor:
    """The threshold is subtracted where a spike was fired."""
    return membrane - threshold * spikes


def full_gradient(membrane: Tensor) -> Tensor:
    """Backpropagation through time: gradients follow the membrane to all earlier steps."""
    return membrane


def spatial_gradient(membrane: Tensor) -> Tensor:
    """Gradients stay within their step: the carried membrane counts as injected noise (SLTT, ICCV 2023)."""
    return membrane.detach()


@dataclass(frozen=True)
class LifRule:
    """Everything about a step but its data. ``detach_reset`` keeps gradients out of the reset's spike; ``gain`` scales x."""

    leak: Leak = MultiplicativeLeak(0.5)
    threshold: float = 1.0
    surrogate: Surrogate = Triangle()
    reset: Reset = hard_reset
    detach_reset: bool = False
    store: Store | None = None
    temporal: Temporal = full_gradient
    gain: float | Tensor = 1.0
    fire: Fire = spike


def lif_step(current: Tensor, carry: Tensor | None, rule: LifRule) -> tuple[Tensor, Tensor]:
    """One step for ``current`` (N, ...); ``carry`` None stands for a resting membrane. Returns (spikes, carry)."""
    membrane, spikes = _charge(current, carry, rule)
    return spikes, _settle(membrane, spikes, rule)


def lif_scan(current: Tensor, rule: LifRule) -> Tensor:
    """Spikes (T, N, ...) for ``current`` (T, N, ...), from a resting membrane."""
    if not len(current):
        return torch.empty_like(current)
    *earlier, last = current.unbind(0)
    spikes, carry = [], None
    for x in earlier:
        fired, carry = lif_step(x, carry, rule)
        spikes.append(fired)
    spikes.append(_charge(last, carry, rule)[1])  # nothing reads the membrane after the last step
    return torch.stack(spikes)


def lif_membranes(current: Tensor, rule: LifRule) -> Tensor:
    """Membranes u (T, N, ...) that :func:`lif_scan` decides its spikes on, before the reset."""
    membranes, carry = [], None
    for x in current.unbind(0):
        membrane, spikes = _charge(x, carry, rule)
        membranes.append(membrane)
        carry = _settle(membrane, spikes, rule)
    return torch.stack(membranes) if membranes else torch.empty_like(current)


def _charge(current: Tensor, carry: Tensor | None, rule: LifRule) -> tuple[Tensor, Tensor]:
    driven = current if isinstance(rule.gain, float) and rule.gain == 1 else rule.gain * current
    membrane = driven if carry is None else rule.leak(carry) + driven
    return membrane, rule.fire(membrane - rule.threshold, rule.surrogate)


def _settle(membrane: Tensor, spikes: Tensor, rule: LifRule) -> Tensor:
    rest = rule.reset(membrane, spikes.detach() if rule.detach_reset else spikes, rule.threshold)
    rest = rule.temporal(rest)
    return rest if rule.store is None else rule.store(rest)
