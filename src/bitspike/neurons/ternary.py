"""A leaky integrate-and-fire neuron with spikes of both signs.

Source: the ternary spikes -1, 0, 1 of "Ternary Spike: Learning Ternary Spikes for Spiking Neural Networks" (AAAI 2024,
arXiv 2312.06372)::

    u[t] = leak * c[t-1] + x[t]        s[t] = [u[t] > v] - [u[t] < -v]        c[t] = 0 where a spike was fired, else u[t]
"""

from __future__ import annotations

from torch import Tensor

from ..errors import ConfigError
from ..ops import (
    STORED,
    Advance,
    LeakyProgram,
    MembraneQuantizer,
    Program,
    Rectangle,
    Surrogate,
    multiplicative_leak,
    ternary_advance,
    ternary_hard_reset,
    ternary_soft_reset,
)
from .registry import register_neuron
from .stepped import Stepped, check_choice, check_unit_range

__all__ = ["TernaryLIF"]

RESETS = {"hard": ternary_hard_reset, "soft": ternary_soft_reset}


@register_neuron("ternary")
class TernaryLIF(Stepped):
    """Ternary LIF: spikes -1 where the membrane is below -threshold, 1 where it is above threshold, else 0.

    An odd function of the current: with the sign of all currents, that of all spikes changes.
    leak: factor kept per step, 0 to 1. reset: "hard" (to zero) or "soft" (minus threshold, with the sign of the spike);
    ``detach_reset`` cuts its gradient. surrogate: used at both thresholds; Rectangle of width 1 by default.
    membrane: quantizer of the stored membrane. Raises ConfigError for values out of range.
    """

    def __init__(
        self,
        leak: float = 0.5,
        *,
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
        reset: str = "hard",
        detach_reset: bool = False,
        membrane: MembraneQuantizer | None = None,
    ) -> None:
        super().__init__()
        check_unit_range(leak=leak)
        if not threshold > 0:
            raise ConfigError(f"threshold is {threshold}, accepted: above 0")
        check_choice("reset", reset, RESETS)
        self.leak = leak
        self.threshold = threshold
        self.surrogate = surrogate or Rectangle()
        self.reset = reset
        self.detach_reset = detach_reset
        self.membrane = membrane

    @property
    def levels(self) -> tuple[float, ...]:
        return -1.0, 0.0, 1.0

    def firing(self, output: Tensor) -> Tensor:
        """1 where a spike of either sign was fired."""
        return output.abs()

    def advance(self) -> Advance:
        leak = multiplicative_leak(self.leak)
        return ternary_advance(
            self.threshold, self.surrogate, leak, RESETS[self.reset], self.detach_reset, self.membrane
        )

    def program(self) -> Program | str:
        if self.membrane is not None:
            return STORED
        kind = f"ternary_{self.reset}"
        return LeakyProgram(kind, self.threshold, self.surrogate, self.leak, detach_reset=self.detach_reset)

    def extra_repr(self) -> str:
        return f"leak={self.leak:g}, threshold={self.threshold:g}, reset={self.reset!r}, surrogate={self.surrogate}"
