"""Leaky integrate-and-fire neurons with a fixed (LIF) or a learned (PLIF) leak."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import (
    LifRule,
    MembraneQuantizer,
    Program,
    Surrogate,
    Triangle,
    full_gradient,
    hard_reset,
    lif_membranes,
    lif_program,
    lif_scan,
    lif_step,
    multiplicative_leak,
    run,
    shift_leak,
    soft_reset,
    spatial_gradient,
)
from ..ops.membrane import Leak
from .registry import Neuron, register_neuron

__all__ = ["LIF", "PLIF", "TEMPORAL_GRADIENTS", "set_temporal_gradient"]

RESETS = {"hard": hard_reset, "soft": soft_reset}
TEMPORAL_GRADIENTS = {"full": full_gradient, "spatial": spatial_gradient}


class _Lif(Neuron):
    """What LIF and PLIF share: reset, surrogate, membrane quantizer; subclasses give the leak."""

    def __init__(
        self,
        threshold: float,
        surrogate: Surrogate | None,
        reset: str,
        detach_reset: bool,
        decay_input: bool,
        membrane: MembraneQuantizer | None,
        temporal_gradient: str,
    ) -> None:
        super().__init__()
        if not threshold > 0:
            raise ConfigError(f"threshold is {threshold}, accepted: above 0")
        if reset not in RESETS:
            raise ConfigError(f"reset is {reset!r}, accepted: {', '.join(RESETS)}")
        _check_temporal(temporal_gradient)
        self.threshold = threshold
        self.surrogate = surrogate or Triangle()
        self.reset = reset
        self.detach_reset = detach_reset
        self.decay_input = decay_input
        self.membrane = membrane
        self.temporal_gradient = temporal_gradient

    def rule(self) -> LifRule:
        """The step rule of this neuron as plain functions."""
        raise TypeError(f"{type(self).__name__} defines no rule")

    def input_gain(self) -> float | Tensor:
        """Factor on the current: 1 - leak where the input decays with the membrane, else 1."""
        raise TypeError(f"{type(self).__name__} defines no input gain")

    def forward(self, current: Tensor) -> Tensor:
        """Spikes (T, N, ...) for ``current`` (T, N, ...)."""
        rule = self.rule()
        return run(current, lif_program(rule), lambda: lif_scan(current, rule))

    def program(self) -> Program | str:
        return lif_program(self.rule())

    def membranes(self, current: Tensor) -> Tensor:
        return lif_membranes(current, self.rule())

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return lif_step(current, state, self.rule())

    def _rule(self, leak: Leak) -> LifRule:
        return LifRule(
            leak,
            self.threshold,
            self.surrogate,
            RESETS[self.reset],
            self.detach_reset,
            self.membrane,
            TEMPORAL_GRADIENTS[self.temporal_gradient],
            self.input_gain() if self.decay_input else 1.0,
        )


@register_neuron("lif")
class LIF(_Lif):
    """Leaky integrate-and-fire neuron: u[t] = leak * c[t-1] + x[t], spike where u > threshold.

    leak: factor kept per step, 0 to 1. With ``leak_shift`` = j the leak is the integer rule c - (c >> j) on the grid
        of the membrane quantizer (or of 2^-15 without one), and ``leak`` must not be given.
    reset: "hard" (to zero) or "soft" (minus threshold); ``detach_reset`` cuts its gradient.
    decay_input: the current is scaled by 1 - leak, so a constant input drives u towards itself.
    membrane: quantizer of the stored membrane, see ``bitspike.compress``.
    temporal_gradient: "full" (backpropagation through time) or "spatial" (no gradient through the carried membrane).
    Raises ConfigError for values out of range.
    """

    def __init__(
        self,
        leak: float | None = None,
        *,
        leak_shift: int | None = None,
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
        reset: str = "hard",
        detach_reset: bool = False,
        decay_input: bool = False,
        membrane: MembraneQuantizer | None = None,
        temporal_gradient: str = "full",
    ) -> None:
        super().__init__(threshold, surrogate, reset, detach_reset, decay_input, membrane, temporal_gradient)
        if leak is not None and leak_shift is not None:
            raise ConfigError(f"leak {leak} and leak_shift {leak_shift} are two ways to say one thing; give one")
        if leak_shift is not None and not 1 <= leak_shift <= 15:
            raise ConfigError(f"leak_shift is {leak_shift}, accepted: 1 to 15")
        self.leak_shift = leak_shift
        self.leak = leak if leak is not None else 0.5 if leak_shift is None else 1 - 2.0**-leak_shift
        if not 0 <= self.leak <= 1:
            raise ConfigError(f"leak is {leak}, accepted: 0 to 1")

    def rule(self) -> LifRule:
        if self.leak_shift is None:
            leak = multiplicative_leak(self.leak)
        else:
            exponent = self.membrane.log2_step if self.membrane is not None else None
            leak = shift_leak(self.leak_shift, 2.0 ** (-15 if exponent is None else exponent))
        return self._rule(leak)

    def input_gain(self) -> float:
        return 1 - self.leak

    def extra_repr(self) -> str:
        leak = f"leak={self.leak:g}" if self.leak_shift is None else f"leak_shift={self.leak_shift}"
        return f"{leak}, threshold={self.threshold:g}, reset={self.reset!r}, surrogate={self.surrogate}"


@register_neuron("plif")
class PLIF(_Lif):
    """LIF whose leak is learned, one per layer: leak = 1 - 1 / tau with 1 / tau = sigmoid(w), tau > 1.

    ``initial_tau`` sets the start; the other arguments are those of :class:`LIF`.
    """

    def __init__(
        self,
        initial_tau: float = 2.0,
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
        if not initial_tau > 1:
            raise ConfigError(f"initial_tau is {initial_tau}, accepted: above 1")
        self.w = nn.Parameter(torch.tensor(-math.log(initial_tau - 1)))

    def rule(self) -> LifRule:
        return self._rule(multiplicative_leak(1 - torch.sigmoid(self.w)))

    def input_gain(self) -> Tensor:
        return torch.sigmoid(self.w)


def set_temporal_gradient(model: nn.Module, temporal_gradient: str) -> nn.Module:
    """Set every LIF and PLIF of ``model``, in place, to "full" or "spatial"; neurons of other kinds stay as they are.

    Raises ConfigError for another value.
    """
    _check_temporal(temporal_gradient)
    for module in model.modules():
        if isinstance(module, _Lif):
            module.temporal_gradient = temporal_gradient
    return model


def _check_temporal(value: str) -> None:
    if value not in TEMPORAL_GRADIENTS:
        raise ConfigError(f"temporal_gradient is {value!r}, accepted: {', '.join(TEMPORAL_GRADIENTS)}")
