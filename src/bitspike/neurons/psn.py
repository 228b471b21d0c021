"""Parallel spiking neurons: no reset, so that the membranes of all steps are one learned product.

Source: "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies" (NeurIPS 2023, arXiv
2304.12760). With currents x (T, N), a learned matrix W (T, T) and thresholds b (T,)::

    PSN           h = W x                                    s[t] = [h[t] > b[t]]
    masked PSN    h = (W * (p M + (1 - p) 1)) x              M the lower band of k diagonals, p the mask's progress

One matrix and one vector per layer, shared by all channels and positions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import ATan, Program, Surrogate, WindowProgram, band_taps, causal_filter, mix_steps, run, spike
from .registry import Neuron, register_neuron

__all__ = ["PSN", "MaskedPSN", "Parallel", "mask_schedule", "set_mask_progress"]


class WithoutReset(Neuron):
    """A neuron whose membranes are a map of the currents: nothing is stored between steps that could be quantized."""

    stores_membrane = False
    membrane = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "membrane" and value is not None:
            raise ConfigError(f"{type(self).__name__} stores no membrane between steps; there is none to quantize")
        super().__setattr__(name, value)


class Parallel(WithoutReset):
    """A neuron without reset: a subclass gives the membranes, and ``threshold`` says where they fire."""

    echoes = True
    threshold: Tensor  # scalar, or (T,)

    def __init__(self, threshold: Tensor, surrogate: Surrogate | None) -> None:
        super().__init__()
        if not (threshold > 0).all():
            raise ConfigError(f"threshold is {threshold.flatten()[0].item()}, accepted: above 0")
        self.threshold = nn.Parameter(threshold)
        self.surrogate = surrogate or ATan()

    def forward(self, current: Tensor) -> Tensor:
        """Spikes (T, N, ...) for ``current`` (T, N, ...)."""
        return run(current, self.program(), lambda: self.fire(self.membranes(current), self.threshold))

    def fire(self, membranes: Tensor, threshold: Tensor) -> Tensor:
        """Spikes of ``membranes`` (T, N, ...) at ``threshold`` (T,) or scalar."""
        return spike(membranes - threshold.view(-1, *[1] * (membranes.dim() - 1)), self.surrogate)


@register_neuron("psn")
class PSN(Parallel):
    """Parallel spiking neuron: a learned T x T map from currents to membranes, a learned threshold per step, no reset.

    time_steps: T, fixed: other lengths raise ConfigError. Every spike depends on the currents of all steps, so the neuron
    is not causal and refuses to ``step``. threshold: its start, the same at every step. T * T + T parameters.
    """

    def __init__(self, time_steps: int = 4, *, threshold: float = 1.0, surrogate: Surrogate | None = None) -> None:
        if time_steps < 1:
            raise ConfigError(f"time_steps is {time_steps}, accepted: 1 or more")
        super().__init__(torch.full((time_steps,), float(threshold)), surrogate)
        self.time_steps: int = time_steps
        bound = 1 / math.sqrt(time_steps)  # Kaiming-uniform with a = sqrt(5), the start of linear layers
        self.weight = nn.Parameter(torch.empty(time_steps, time_steps).uniform_(-bound, bound))

    @property
    def causal(self) -> bool:
        return False

    def forward(self, current: Tensor) -> Tensor:
        check_steps(self, len(current), self.time_steps)
        return super().forward(current)

    def program(self) -> Program | str:
        return "a full matrix over time is a product, torch's own"

    def membranes(self, current: Tensor) -> Tensor:
        check_steps(self, len(current), self.time_steps)
        return mix_steps(current, self.weight)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, surrogate={self.surrogate}"


@register_neuron("masked_psn")
class MaskedPSN(PSN):
    """Parallel spiking neuron that comes to see only the last ``order`` steps, as its mask closes during training.

    progress: how far the mask has closed, 0 (a PSN) to 1 (a band of ``order`` diagonals); it is stored with the weights and
    set by :func:`set_mask_progress`. Causal, and able to ``step``, at 1 only. T * T + T parameters.
    """

    closed: Tensor

    def __init__(
        self,
        time_steps: int = 4,
        *,
        order: int = 2,
        progress: float = 1.0,
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__(time_steps, threshold=threshold, surrogate=surrogate)
        if not 1 <= order <= time_steps:
            raise ConfigError(f"order is {order}, accepted: 1 to {time_steps}, the time_steps")
        self.order = order
        self.register_buffer("closed", torch.zeros((), dtype=torch.float64))  # travels with the weights
        self.set_progress(progress)

    def set_progress(self, progress: float) -> None:
        """Close the mask to ``progress``, 0 to 1."""
        if not 0 <= progress <= 1:
            raise ConfigError(f"mask progress is {progress}, accepted: 0 to 1")
        self.progress = float(progress)
        self.closed.fill_(progress)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self.progress = float(self.closed)

    @property
    def causal(self) -> bool:
        return self.progress == 1

    def masked_weight(self) -> Tensor:
        """The matrix (T, T) in effect."""
        ones = torch.ones_like(self.weight)
        band = ones.tril() - ones.tril(-self.order)
        return self.weight * (self.progress * band + (1 - self.progress) * ones)

    def program(self) -> Program | str:
        if not self.causal:
            return super().program()
        return WindowProgram(band_taps(self.weight, self.order), self.threshold, self.surrogate)

    def membranes(self, current: Tensor) -> Tensor:
        check_steps(self, len(current), self.time_steps)
        if not self.causal:
            return mix_steps(current, self.masked_weight())
        return causal_filter(current, band_taps(self.weight, self.order))

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``state``: the currents so far (t, N, ...); their number says which step this is.

        Raises ConfigError after ``time_steps`` steps, TypeError while the mask is open.
        """
        if not self.causal:
            raise TypeError(
                f"{type(self).__name__} looks at the whole sequence and cannot be stepped while its mask is open "
                f"(progress is {self.progress:g}); set_mask_progress(model, 1) closes it"
            )
        t = 0 if state is None else len(state)
        check_step(self, t, self.time_steps)
        h, seen = filter_step(current, state, band_taps(self.weight, self.order))
        return self.fire(h, self.threshold[t])[0], seen

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, order={self.order}, surrogate={self.surrogate}"


def filter_step(current: Tensor, state: Tensor | None, taps: Tensor) -> tuple[Tensor, Tensor]:
    """What ``causal_filter`` gives for the next step, (1, N, ...), and the currents so far with ``current`` (N, ...) added.

    state: the currents so far (t, N, ...), None for none; taps: (k, T).
    """
    t, order = 0 if state is None else len(state), len(taps)
    seen = current[None] if state is None else torch.cat([state, current[None]])
    missing = current.new_zeros(max(order - 1 - t, 0), *current.shape)
    past = torch.cat([missing, seen[:-1]])[len(missing) + t - order + 1 :]
    return causal_filter(current[None], taps[:, t : t + 1], past), seen


def check_steps(neuron: Neuron, steps: int, accepted: int) -> None:
    """ConfigError for a sequence of another length than ``accepted``, the time_steps of ``neuron``."""
    if steps != accepted:
        raise ConfigError(
            f"the sequence has {steps} steps, accepted: {accepted}, the time_steps of this {type(neuron).__name__}; "
            "SlidingPSN takes any length"
        )


def check_step(neuron: Neuron, t: int, accepted: int) -> None:
    """ConfigError for step ``t``, counted from 0, behind the last one."""
    if t >= accepted:
        raise ConfigError(
            f"this is step {t + 1}, accepted: 1 to {accepted}, the time_steps of this {type(neuron).__name__}"
        )


def set_mask_progress(model: nn.Module, progress: float, closed_at: float = 0.125) -> None:
    """Close the mask of every masked PSN of ``model`` to min(1, progress / closed_at).

    progress: epoch / epochs, 0 to 1, set before every epoch. closed_at: the share of the training after which the mask is
    closed, an eighth in the released code. Raises ConfigError for values out of range.
    """
    if not 0 <= progress <= 1:
        raise ConfigError(f"progress is {progress}, accepted: 0 to 1")
    if not 0 < closed_at <= 1:
        raise ConfigError(f"closed_at is {closed_at}, accepted: above 0, up to 1")
    for module in model.modules():
        if isinstance(module, MaskedPSN):
            module.set_progress(min(1.0, progress / closed_at))


def mask_schedule(epochs: int) -> Callable[[nn.Module, float], None]:
    """What closes the masks of a training of ``epochs`` epochs as the released code does, to be called before every epoch.

    It takes (model, progress = epoch / epochs) and closes to min(1, 8 * epoch / (epochs - 1)). A single epoch trains with
    closed masks, so that a trained network is causal (our reading).
    """
    if epochs < 2:
        return lambda model, progress: set_mask_progress(model, 1.0)
    return functools.partial(set_mask_progress, closed_at=(epochs - 1) / (8 * epochs))
