"""Transformer blocks: a token mixer and two 1x1 convolutions, each beside a shortcut, in two residual styles."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import ConfigError
from .synapse import ConvBN
from .tokenizer import NeuronFactory
from .unit import SpikingUnit

__all__ = ["PostActivationBlock", "PreActivationBlock", "SpikingMLP"]


class SpikingMLP(nn.Module):
    """BN(conv(LIF(BN(conv(x))))), 1x1 convolutions dim -> hidden -> dim: spikes (T, N, dim, H, W) to currents."""

    def __init__(self, dim: int, hidden: int, neuron: NeuronFactory, *, bias: bool = True) -> None:
        super().__init__()
        if hidden < 1:
            raise ConfigError(f"the MLP has {hidden} hidden channels, accepted: 1 or more")
        self.expand = SpikingUnit(neuron(), ConvBN(dim, hidden, 1, bias=bias))
        self.project = ConvBN(hidden, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        current: Tensor = self.project(self.expand(x))
        return current


class PostActivationBlock(nn.Module):
    """x + LIF(mixer(x)), then x + LIF(mlp(x)): spikes added to counts, up to two more a block (SEW; Spikformer)."""

    def __init__(self, mixer: nn.Module, mlp: nn.Module, neuron: NeuronFactory) -> None:
        super().__init__()
        self.mixer = mixer
        self.mixer_neuron = neuron()
        self.mlp = mlp
        self.mlp_neuron = neuron()

    def forward(self, counts: Tensor) -> Tensor:
        counts = counts + self.mixer_neuron(self.mixer(counts))
        return counts + self.mlp_neuron(self.mlp(counts))


class PreActivationBlock(nn.Module):
    """x + mixer(LIF(x)), then x + mlp(LIF(x)) on a stream of currents: every convolution reads spikes (Spikingformer)."""

    def __init__(self, mixer: nn.Module, mlp: nn.Module, neuron: NeuronFactory) -> None:
        super().__init__()
        self.mixer_neuron = neuron()
        self.mixer = mixer
        self.mlp_neuron = neuron()
        self.mlp = mlp

    def forward(self, currents: Tensor) -> Tensor:
        currents = currents + self.mixer(self.mixer_neuron(currents))
        return currents + self.mlp(self.mlp_neuron(currents))
