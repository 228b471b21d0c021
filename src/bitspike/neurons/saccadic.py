"""Saccadic neurons: which patches of an image are looked at, step by step, decided by how salient they are.

Source: "Spiking Vision Transformer with Saccadic Attention" (SNN-ViT, ICLR 2025, arXiv 2502.12677). With saliences p (T, N),
a learned lower-triangular matrix M (T, T) and thresholds V (T,)::

    saccadic              h = M p       s[t] = [h[t] > V[t]]
    decoupled saccadic    h = p         s[t] = [h[t] > V[t]]

The paper trains the first and says that it runs as the second with thresholds M^-1 V; the two agree for a diagonal M only,
so here the second learns thresholds of its own. One matrix and one vector per layer, shared by everything but time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import Sigmoid, Surrogate, band_taps, causal_filter, spike
from .psn import WithoutReset, check_step, check_steps, filter_step
from .registry import register_neuron

__all__ = ["DecoupledSaccadic", "Saccadic"]

LEAST = 1e-3  # of the diagonal of M, so that it stays invertible


def positive(raw: Tensor) -> Tensor:
    """log2(1 + 2^raw): the softplus that is exactly 1 at 0."""
    return torch.logaddexp2(raw, torch.zeros_like(raw))


class _Gate(WithoutReset):
    """Thresholds V = threshold · positive(a), a (T,) learned from 0; a subclass gives the membranes."""

    def __init__(self, time_steps: int, threshold: float, surrogate: Surrogate | None) -> None:
        super().__init__()
        if time_steps < 1:
            raise ConfigError(f"time_steps is {time_steps}, accepted: 1 or more")
        if not threshold > 0:
            raise ConfigError(f"threshold is {threshold}, accepted: above 0")
        self.time_steps: int = time_steps
        self.initial_threshold = float(threshold)
        self.surrogate = surrogate or Sigmoid()
        self.raw_threshold = nn.Parameter(torch.zeros(time_steps))

    def thresholds(self) -> Tensor:
        """V (T,), above 0."""
        return self.initial_threshold * positive(self.raw_threshold)

    def forward(self, current: Tensor) -> Tensor:
        """Spikes (T, N, ...) for ``current`` (T, N, ...), the saliences."""
        check_steps(self, len(current), self.time_steps)
        return self.fire(self.membranes(current), self.thresholds())

    def fire(self, membranes: Tensor, thresholds: Tensor) -> Tensor:
        """Spikes of ``membranes`` (T, N, ...) at ``thresholds`` (T,). The surrogate sees distances in units of V."""
        v = thresholds.view(-1, *[1] * (membranes.dim() - 1))
        return spike((membranes - v) / v, self.surrogate)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, threshold={self.initial_threshold:g}, surrogate={self.surrogate}"


@register_neuron("saccadic")
class Saccadic(_Gate):
    """Saccadic neuron: a learned lower-triangular map of the currents over time, learned thresholds above 0, no reset.

    time_steps: T, fixed: other lengths raise ConfigError. threshold: its start, the same at every step. The map starts as
    0.5^(t - j) and its diagonal stays above 0. The state of a ``step`` holds the currents so far. T * T + T parameters,
    of which the ones above the diagonal do nothing. Source: SNN-ViT (arXiv 2502.12677), training form.
    """

    echoes = True

    def __init__(self, time_steps: int = 4, *, threshold: float = 1.0, surrogate: Surrogate | None = None) -> None:
        super().__init__(time_steps, threshold, surrogate)
        lag = torch.arange(time_steps)[:, None] - torch.arange(time_steps)
        self.raw_weight = nn.Parameter(torch.where(lag > 0, 0.5**lag, 0.0))  # the diagonal goes through ``positive``

    def weight(self) -> Tensor:
        """M (T, T)."""
        diagonal = LEAST + (1 - LEAST) * positive(self.raw_weight.diagonal())
        return self.raw_weight.tril(-1) + diagonal.diag()

    def membranes(self, current: Tensor) -> Tensor:
        return causal_filter(current, band_taps(self.weight(), self.time_steps))

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        t = 0 if state is None else len(state)
        check_step(self, t, self.time_steps)
        h, seen = filter_step(current, state, band_taps(self.weight(), self.time_steps))
        return self.fire(h, self.thresholds()[t : t + 1])[0], seen


@register_neuron("decoupled_saccadic")
class DecoupledSaccadic(_Gate):
    """Saccadic neuron of the inference form: each step compares its own current with a learned threshold above 0.

    time_steps: T, fixed: other lengths raise ConfigError. threshold: its start, the same at every step. The state of a
    ``step`` is the number of steps so far. T parameters. Source: SNN-ViT (arXiv 2502.12677), trained as it runs.
    """

    def __init__(self, time_steps: int = 4, *, threshold: float = 1.0, surrogate: Surrogate | None = None) -> None:
        super().__init__(time_steps, threshold, surrogate)

    def membranes(self, current: Tensor) -> Tensor:
        return current

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        t = 0 if state is None else int(state)
        check_step(self, t, self.time_steps)
        spikes = self.fire(current[None], self.thresholds()[t : t + 1])
        return spikes[0], torch.tensor(t + 1)
