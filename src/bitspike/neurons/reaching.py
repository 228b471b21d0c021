"""A leaky integrate-and-fire neuron for counts: it fires when its membrane reaches the threshold."""

from __future__ import annotations

import dataclasses

from ..ops import LifRule, MembraneQuantizer, Surrogate, multiplicative_leak, reach
from .lif import _Lif
from .registry import register_neuron
from .stepped import check_unit_range

__all__ = ["ReachingLIF"]


@register_neuron("reaching-lif")
class ReachingLIF(_Lif):
    """u[t] = leak * c[t-1] + x[t], spike where u >= threshold, otherwise like :class:`LIF`.

    Sums of spikes often meet a threshold exactly, and whether that fires decides much: with leak 1/2, ``decay_input`` and
    threshold 1, a count of 2 fires from rest here, and 3 is the smallest that does in :class:`LIF`.
    Raises ConfigError for values out of range.
    """

    def __init__(
        self,
        leak: float = 0.5,
        *,
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
        reset: str = "hard",
        detach_reset: bool = False,
        decay_input: bool = False,
        membrane: MembraneQuantizer | None = None,
        temporal_gradient: str = "full",
    ) -> None:
        super().__init__(threshold, surrogate, reset, detach_reset, decay_input, membrane, temporal_gradient)
        check_unit_range(leak=leak)
        self.leak = leak

    def rule(self) -> LifRule:
        return dataclasses.replace(self._rule(multiplicative_leak(self.leak)), fire=reach)

    def input_gain(self) -> float:
        return 1 - self.leak

    def extra_repr(self) -> str:
        return f"leak={self.leak:g}, threshold={self.threshold:g}, reset={self.reset!r}, surrogate={self.surrogate}"
