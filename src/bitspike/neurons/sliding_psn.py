"""The sliding parallel spiking neuron: one short kernel over time, shared by all steps.

Source: "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies" (NeurIPS 2023, arXiv
2304.12760). With a learned kernel w (k,) and one threshold b::

    h[t] = sum_i w[i] x[t - k + 1 + i]        s[t] = [h[t] > b]        x = 0 before the first step
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import Program, Surrogate, WindowProgram, causal_filter
from .psn import Parallel
from .registry import register_neuron

__all__ = ["KERNELS", "SlidingPSN"]


def exponential_kernel(order: int) -> Tensor:
    """(..., 1/4, 1/2, 1): the membrane of a neuron with leak 1/2 and no reset, cut off after ``order`` steps."""
    return 2.0 ** torch.arange(1.0 - order, 1.0)


def uniform_kernel(order: int) -> Tensor:
    """Uniform in ±1 / sqrt(order)."""
    return torch.empty(order).uniform_(-(order**-0.5), order**-0.5)


KERNELS = {"exponential": exponential_kernel, "uniform": uniform_kernel}


@register_neuron("sliding_psn")
class SlidingPSN(Parallel):
    """Parallel spiking neuron with a learned kernel over the last ``order`` steps, for sequences of any length.

    kernel: how it starts, "exponential" or "uniform"; threshold: the start of the one learned threshold. The state of a
    ``step`` holds the last order - 1 currents (order - 1, N, ...). order + 1 parameters.
    Raises ConfigError for values out of range.
    """

    def __init__(
        self,
        order: int = 4,
        *,
        kernel: str = "exponential",
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
    ) -> None:
        if order < 1:
            raise ConfigError(f"order is {order}, accepted: 1 or more")
        if kernel not in KERNELS:
            raise ConfigError(f"kernel is {kernel!r}, accepted: {', '.join(KERNELS)}")
        super().__init__(torch.tensor(float(threshold)), surrogate)
        self.order = order
        self.weight = nn.Parameter(KERNELS[kernel](order))

    def program(self) -> Program | str:
        return WindowProgram(self.weight[:, None], self.threshold.view(1), self.surrogate)

    def membranes(self, current: Tensor) -> Tensor:
        return causal_filter(current, self.weight[:, None])

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        past = current.new_zeros(self.order - 1, *current.shape) if state is None else state
        h = causal_filter(current[None], self.weight[:, None], past)
        return self.fire(h, self.threshold)[0], torch.cat([past, current[None]])[1:]

    def extra_repr(self) -> str:
        return f"order={self.order}, surrogate={self.surrogate}"
