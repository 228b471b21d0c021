"""Names of the neurons, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from ..ops import Choice, MembraneQuantizer, Program, choose

__all__ = ["NEURONS", "Neuron", "register_neuron"]


class Neuron(nn.Module):
    """Turns currents (T, N, ...) into spikes (T, N, ...) without keeping state between calls.

    ``membrane`` is the quantizer of the stored membrane, or None. A neuron declares what the others may rely on:
    """

    time_steps: int | None = None  # the only length of sequence it takes; None: any
    echoes: bool = False  # by default, currents that have stopped may still cause spikes later
    temporal_gradient: str = "full"  # or "spatial": gradients stay within their time step
    stores_membrane: bool = True  # between steps, so that a quantizer has something to do
    label: str | None = None  # shown in reports where the module's path does not tell
    membrane: MembraneQuantizer | None

    @property
    def causal(self) -> bool:
        """Whether spikes follow from the current of their own and earlier steps alone: such neurons also ``step``."""
        return True

    @property
    def levels(self) -> tuple[float, ...]:
        """The values an output may take, ascending."""
        return 0.0, 1.0

    def firing(self, output: Tensor) -> Tensor:
        """How much of what it can fire each output of the neuron is, 0 to 1: the spikes themselves, where they are 0 or 1."""
        return output

    def program(self) -> Program | str:
        """This neuron as data for fused kernels, or why they do not know it."""
        return f"no kernel knows {type(self).__name__}"

    def backend(self, current: Tensor) -> Choice:
        """What runs this neuron on ``current`` (T, N, ...): a kernel's name, or "reference" and the reason."""
        return choose(current, self.program())

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes (N, ...) and the next state for one step of current (N, ...); state None is the resting state."""
        raise TypeError(f"{type(self).__name__} looks at the whole sequence and cannot be stepped")

    def membranes(self, current: Tensor) -> Tensor:
        """Membranes (T, N, ...) that the spikes of ``current`` are decided on, before any reset."""
        raise TypeError(f"{type(self).__name__} does not show its membranes")


NEURONS: dict[str, type[Neuron]] = {}
N = TypeVar("N", bound=type[Neuron])


def register_neuron(name: str) -> Callable[[N], N]:
    """Class decorator that makes a neuron known by ``name`` to the tests, the docs and the command line."""

    def register(cls: N) -> N:
        NEURONS[name] = cls
        return cls

    return register
