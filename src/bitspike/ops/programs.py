"""What fused kernels can run: neurons as plain data instead of functions.

A rule of ``ops.membrane`` or ``ops.stepping`` may hold any leak, surrogate or membrane quantizer. A program names one of
the kinds that kernels know. Where a neuron has no program, the reason is a sentence, and the reference runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .membrane import (
    LifRule,
    MultiplicativeLeak,
    full_gradient,
    hard_reset,
    soft_reset,
    spatial_gradient,
)
from .surrogate import Surrogate, reach, spike

__all__ = ["STORED", "LeakyProgram", "Program", "WindowProgram", "lif_program"]

STORED = "the stored membrane is quantized"


@dataclass(frozen=True)
class LeakyProgram:
    """Neurons with a leak, from a resting membrane c: u = leak * c + gain * x, s = fire(u), c = rest(u, s).

    kind: "hard", "soft" (binary spikes above the threshold), "reach_hard", "reach_soft" (from the threshold on),
    "ternary_hard", "ternary_soft", "adaptive_hard", "adaptive_soft" (the threshold is threshold + strength * a, and after
    each step a = decay * a + (1 - decay) * s), or "integer", whose ``threshold`` is the largest integer and whose surrogate
    is not used. leak, gain: numbers, or scalars that get a gradient. spatial: gradients do not flow through the carried
    membrane.
    """

    kind: str
    threshold: float
    surrogate: Surrogate | None
    leak: float | Tensor
    gain: float | Tensor = 1.0
    detach_reset: bool = False
    spatial: bool = False
    strength: float = 0.0
    decay: float = 0.0


@dataclass(frozen=True)
class WindowProgram:
    """Neurons without reset: h[t] = sum_i taps[i, t] x[t - k + 1 + i], s[t] = [h[t] > threshold[t]].

    taps: (k, T), or (k, 1) for all steps. threshold: (T,), or (1,).
    """

    taps: Tensor
    threshold: Tensor
    surrogate: Surrogate


Program = LeakyProgram | WindowProgram
KINDS = {hard_reset: "hard", soft_reset: "soft"}
SPATIAL = {full_gradient: False, spatial_gradient: True}


def lif_program(rule: LifRule) -> LeakyProgram | str:
    """The program of ``rule``, or why there is none."""
    if rule.store is not None:
        return STORED
    if type(rule.leak) is not MultiplicativeLeak:
        return "the leak is not a factor"
    fires = "" if rule.fire is spike else "reach_" if rule.fire is reach else None
    if fires is None or rule.reset not in KINDS or rule.temporal not in SPATIAL:
        return "the spike, the reset or the temporal gradient is not one of this library's"
    leak, kind, spatial = rule.leak.factor, fires + KINDS[rule.reset], SPATIAL[rule.temporal]
    return LeakyProgram(kind, rule.threshold, rule.surrogate, leak, rule.gain, bool(rule.detach_reset), spatial)
