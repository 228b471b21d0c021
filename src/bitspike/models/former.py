"""What the spiking transformers share: stages of a tokenizer and blocks, their neurons, their first options."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import Convolution, CurrentPool, Readout, SpikePool
from ..layers.tokenizer import Downsampling
from ..neurons import LIF
from ..ops import Sigmoid

__all__ = ["DOWNSAMPLINGS", "SpikingTransformer", "Stage", "attention_neuron", "former_neuron", "stack_plan"]

DOWNSAMPLINGS: dict[str, Downsampling] = {"spikes": SpikePool, "currents": CurrentPool}
PATCHES = (1, 2, 4, 8, 16)


def former_neuron(leak: float = 0.5, threshold: float = 1.0) -> LIF:
    """u += (x - u) / tau with leak = 1 - 1 / tau, hard reset without gradient, sigmoid surrogate of slope 4."""
    return LIF(leak, threshold=threshold, decay_input=True, detach_reset=True, surrogate=Sigmoid())


def attention_neuron(leak: float = 0.5) -> LIF:
    """The neuron directly behind an attention: half the threshold."""
    return former_neuron(leak, threshold=0.5)


class Stage(nn.Module):
    """A tokenizer that makes the image smaller, and blocks that keep its size."""

    def __init__(self, tokenizer: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.tokenizer(x))
        return out


class SpikingTransformer(nn.Module):
    """Samples (N, C, H, W) or frames (T, N, C, H, W), u8 values, to logits (T, N, classes).

    The classifier reads the mean over the tokens of the last stage's stream: counts or currents.
    """

    def __init__(self, encoding: DirectEncoding, stages: Sequence[Stage], dim: int, num_classes: int) -> None:
        super().__init__()
        self.encoding = encoding
        self.stages = nn.Sequential(*stages)
        self.readout = Readout(dim, num_classes, pool=True)

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.stages(self.encoding(samples)))
        return logits


def stack_plan(dim: int, patch: int) -> list[Convolution]:
    """Convolutions to dim / 8, dim / 4, dim / 2 and dim channels; the last log2(patch) of them halve the image.

    Raises ConfigError for a dim that 8 does not divide and for a patch other than 1, 2, 4, 8, 16.
    """
    check_dim(dim, 8)
    if patch not in PATCHES:
        raise ConfigError(f"patch is {patch}, accepted: {', '.join(map(str, PATCHES))}")
    whole = 4 - PATCHES.index(patch)
    return [Convolution(dim // 2 ** (3 - i), pooled=i >= whole) for i in range(4)]


def check_dim(dim: int, divisor: int) -> None:
    """ConfigError unless ``dim`` is a multiple of ``divisor``."""
    if dim < 1 or dim % divisor:
        raise ConfigError(f"dim is {dim}, accepted: multiples of {divisor}")


def check_depth(depth: int) -> None:
    """ConfigError for less than one block."""
    if depth < 1:
        raise ConfigError(f"depth is {depth}, accepted: 1 or more")


def choose_downsampling(name: str) -> Downsampling:
    """The class behind option ``downsampling``; ConfigError for another name."""
    if name not in DOWNSAMPLINGS:
        raise ConfigError(f"downsampling is {name!r}, accepted: {', '.join(DOWNSAMPLINGS)}")
    return DOWNSAMPLINGS[name]
