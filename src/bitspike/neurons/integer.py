"""Integer-valued neurons: trained on the integers 0 to D, run on D binary micro-steps per time step.

Sources: the integer-valued LIF of "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for
High-performance and Energy-efficient Object Detection" (ECCV 2024, arXiv 2407.20708) and its normalised form, as stated in
"Adaptive Spiking Neurons for Vision and Language Modeling" (arXiv 2604.12365)::

    u[t] = h[t-1] + x[t]        s[t] = clip(round(u[t]), 0, D)        h[t] = leak * (u[t] - s[t])

The output is s, or s / N in the normalised form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from ..ops import (
    STORED,
    Advance,
    LeakyProgram,
    MembraneQuantizer,
    Program,
    integer_advance,
    integer_levels,
    micro_steps,
    multiplicative_leak,
)
from .registry import register_neuron
from .stepped import Stepped, check_unit_range

__all__ = ["IntegerLIF", "NormalizedIntegerLIF"]


@register_neuron("ilif")
class IntegerLIF(Stepped):
    """Integer-valued LIF: puts out 0 to ``largest``, which :meth:`spikes` writes as binary spikes in micro-steps.

    largest: D. leak: factor on what is carried, 0 to 1. The integer fired is taken off the membrane; ``detach_reset``
    keeps gradients out of that. Backward is straight-through for membranes from 0 to D, 0 outside.
    membrane: quantizer of the stored membrane. Raises ConfigError for values out of range.
    """

    echoes = True  # a membrane far above D keeps what it did not fire

    def __init__(
        self,
        largest: int = 4,
        *,
        leak: float = 0.5,
        detach_reset: bool = False,
        membrane: MembraneQuantizer | None = None,
    ) -> None:
        super().__init__()
        if largest < 1:
            raise ConfigError(f"largest is {largest}, accepted: 1 or more")
        check_unit_range(leak=leak)
        self.largest = largest
        self.leak = leak
        self.detach_reset = detach_reset
        self.membrane = membrane
        self.divisor = 1  # of the integers, in the output

    @property
    def rest(self) -> int:
        """The integer put out where no micro-step fires."""
        return 0

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple((self.rest + count) / self.divisor for count in range(self.largest + 1))

    def fire(self, membrane: Tensor) -> Tensor:
        """Integers of ``membrane`` (N, ...)."""
        return integer_levels(membrane, membrane.new_zeros(()), self.largest)

    def advance(self) -> Advance:
        return integer_advance(self.fire, multiplicative_leak(self.leak), self.detach_reset, self.membrane)

    def program(self) -> Program | str:
        if self.membrane is not None:
            return STORED
        return LeakyProgram("integer", float(self.largest), None, self.leak, detach_reset=self.detach_reset)

    def read(self, fired: Tensor) -> Tensor:
        return fired if self.divisor == 1 else fired / self.divisor

    def firing(self, output: Tensor) -> Tensor:
        """Share of the micro-steps that fire."""
        return (output * self.divisor - self.rest) / self.largest

    @torch.no_grad()
    def spikes(self, current: Tensor) -> Tensor:
        """Binary spikes (T * largest, N, ...) for ``current`` (T, N, ...).

        The output at step t is (rest + sum of the spikes in its ``largest`` micro-steps) / divisor.
        """
        return micro_steps(self.fired(current) - self.rest, self.largest)

    def extra_repr(self) -> str:
        return f"largest={self.largest}, leak={self.leak:g}, divisor={self.divisor}"


@register_neuron("nilif")
class NormalizedIntegerLIF(IntegerLIF):
    """Normalised integer-valued LIF: an integer-valued LIF whose output is divided by ``divisor``, D unless given."""

    def __init__(
        self,
        largest: int = 4,
        *,
        divisor: int | None = None,
        leak: float = 0.5,
        detach_reset: bool = False,
        membrane: MembraneQuantizer | None = None,
    ) -> None:
        super().__init__(largest, leak=leak, detach_reset=detach_reset, membrane=membrane)
        self.divisor = checked_divisor(divisor, largest)


def checked_divisor(divisor: int | None, largest: int) -> int:
    """``divisor``, or ``largest`` where it is not given; ConfigError below 1."""
    if divisor is not None and divisor < 1:
        raise ConfigError(f"divisor is {divisor}, accepted: 1 or more")
    return largest if divisor is None else divisor
