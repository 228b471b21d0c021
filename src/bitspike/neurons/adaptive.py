"""A leaky integrate-and-fire neuron whose threshold rises with its own spikes.

Source: the adaptive neurons of "Long short-term memory and learning-to-learn in networks of spiking neurons" (NeurIPS 2018,
arXiv 1803.09574)::

    u[t] = leak * c[t-1] + x[t]        s[t] = [u[t] > v + strength * a[t]]        a[t+1] = decay * a[t] + (1 - decay) * s[t]
"""

from __future__ import annotations

from ..errors import ConfigError
from ..ops import (
    STORED,
    Advance,
    LeakyProgram,
    MembraneQuantizer,
    Program,
    Surrogate,
    Triangle,
    adaptive_advance,
    multiplicative_leak,
)
from .lif import RESETS
from .registry import register_neuron
from .stepped import Stepped, check_choice, check_unit_range

__all__ = ["AdaptiveLIF"]


@register_neuron("alif")
class AdaptiveLIF(Stepped):
    """LIF with an adaptive threshold: every spike raises it, and it decays back to ``threshold``.

    The adaptation a lies in 0 to 1, so the threshold lies in threshold to threshold + strength; strength 0 is a LIF.
    decay: factor on the adaptation per step, 0 to 1, slower than the membrane's ``leak``. reset: "hard" (to zero) or "soft"
    (minus the threshold that was crossed); ``detach_reset`` cuts its gradient. membrane: quantizer of the stored membrane;
    the adaptation is not quantized. The state of a ``step`` is (2, N, ...): membrane, adaptation.
    Raises ConfigError for values out of range.
    """

    def __init__(
        self,
        leak: float = 0.5,
        *,
        threshold: float = 1.0,
        strength: float = 1.8,
        decay: float = 0.9,
        surrogate: Surrogate | None = None,
        reset: str = "hard",
        detach_reset: bool = False,
        membrane: MembraneQuantizer | None = None,
    ) -> None:
        super().__init__()
        check_unit_range(leak=leak, decay=decay)
        if not threshold > 0:
            raise ConfigError(f"threshold is {threshold}, accepted: above 0")
        if not strength >= 0:
            raise ConfigError(f"strength is {strength}, accepted: 0 or more")
        check_choice("reset", reset, RESETS)
        self.leak = leak
        self.threshold = threshold
        self.strength = strength
        self.decay = decay
        self.surrogate = surrogate or Triangle()
        self.reset = reset
        self.detach_reset = detach_reset
        self.membrane = membrane

    def advance(self) -> Advance:
        return adaptive_advance(
            self.threshold,
            self.strength,
            self.decay,
            self.surrogate,
            multiplicative_leak(self.leak),
            RESETS[self.reset],
            self.detach_reset,
            self.membrane,
        )

    def program(self) -> Program | str:
        if self.membrane is not None:
            return STORED
        return LeakyProgram(
            f"adaptive_{self.reset}",
            self.threshold,
            self.surrogate,
            self.leak,
            detach_reset=self.detach_reset,
            strength=self.strength,
            decay=self.decay,
        )

    def extra_repr(self) -> str:
        return (
            f"leak={self.leak:g}, threshold={self.threshold:g}, strength={self.strength:g}, decay={self.decay:g}, "
            f"reset={self.reset!r}, surrogate={self.surrogate}"
        )
