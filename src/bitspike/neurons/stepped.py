"""What neurons that advance step by step have in common, whatever they put out."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from ..errors import ConfigError
from ..ops import Advance, run, scan_membranes, scan_outputs
from .registry import Neuron

__all__ = ["Stepped", "check_choice", "check_unit_range"]


class Stepped(Neuron):
    """A neuron whose subclass gives the advance of one step; sequence, membranes and steps follow from it."""

    def advance(self) -> Advance:
        """One step as a plain function, see ``ops.stepping``."""
        raise TypeError(f"{type(self).__name__} defines no advance")

    def read(self, fired: Tensor) -> Tensor:
        """The output, for what the advance fired."""
        return fired

    def forward(self, current: Tensor) -> Tensor:
        """Outputs (T, N, ...) for ``current`` (T, N, ...)."""
        return self.read(self.fired(current))

    def fired(self, current: Tensor) -> Tensor:
        """What the advance fires (T, N, ...)."""
        return run(current, self.program(), lambda: scan_outputs(current, self.advance()))

    def membranes(self, current: Tensor) -> Tensor:
        return scan_membranes(current, self.advance())

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _, fired, state = self.advance()(current, state)
        return self.read(fired), state


def check_unit_range(**values: float) -> None:
    """ConfigError where one of ``values`` is outside 0 to 1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value}, accepted: 0 to 1")


def check_choice(name: str, value: str, accepted: Iterable[str]) -> None:
    """ConfigError where ``value`` is none of ``accepted``."""
    accepted = list(accepted)
    if value not in accepted:
        raise ConfigError(f"{name} is {value!r}, accepted: {', '.join(accepted)}")
