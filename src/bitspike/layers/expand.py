"""Steps that are no modules: what attentions and streams compute between their synapses and neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .readout import Readout
from .trace import Operation

__all__ = [
    "Copies",
    "Heads",
    "Mask",
    "MatrixProduct",
    "Mean",
    "Multiplication",
    "Scaling",
    "SelfAttention",
    "SpikeSums",
]


@dataclass(frozen=True)
class SelfAttention(Operation):
    """Query, key, value to ``scale`` · Q (K^T V) of each head, all maps (T, N, C, H, W)."""

    heads: int
    scale: float


@dataclass(frozen=True)
class SpikeSums(Operation):
    """Sums of spikes over a head's channels ("channels": (T, N, heads, H, W)) or over all pixels ("tokens": (T, N, C, 1, 1))."""

    heads: int
    axis: str


@dataclass(frozen=True)
class Mask(Operation):
    """Spikes (T, N, C, H, W), and a mask of spikes of fewer channels or pixels, to the spikes that it lets pass."""


@dataclass(frozen=True)
class MatrixProduct(Operation):
    """Products of the heads' matrices, channels / heads rows and tokens columns each; as ``deploy.ir.MatMul``."""

    heads: int
    transpose: str


@dataclass(frozen=True)
class Scaling(Operation):
    """Currents (T, N, C, H, W) times ``factors()``, (T, groups) or (1, groups); C / groups channels share one.

    rule: the factors of ``module``, whose parameters they are.
    """

    module: nn.Module
    rule: Callable[[Any], Tensor]

    def factors(self) -> Tensor:
        """Real factors, with gradients."""
        return self.rule(self.module)


@dataclass(frozen=True)
class Mean(Operation):
    """Mean of two streams of currents (T, N, C, H, W)."""


@dataclass(frozen=True)
class Multiplication(Operation):
    """Sums of spikes (T, N, G, H, W) times sums over all pixels (T, N, G, 1, 1), over the number of pixels H W."""


@dataclass(frozen=True)
class Copies(Operation):
    """Currents (T, N, C, H, W) ``count`` times, one after the other along the channels."""

    count: int


@dataclass(frozen=True)
class Heads(Operation):
    """Logits (T, N, classes): the mean of ``readouts``, each of a stream of its own."""

    readouts: tuple[Readout, ...]
    gives_logits = True
