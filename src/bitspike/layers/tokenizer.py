"""From images to tokens: stacks of 3x3 convolutions that halve the image, and where the pooling stands in them.

Tokens stay maps (T, N, D, H, W); a token is a pixel of the last one. Sources: Spikformer ("When Spiking Neural Network
Meets Transformer", arXiv 2209.15425), Spikingformer (arXiv 2304.11954), and CML ("Enhancing the Performance of
Transformer-based Spiking Neural Networks by SNN-optimized Downsampling with Precise Gradient Backpropagation", arXiv
2305.05954).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..neurons import Neuron
from .pool import MaxPool
from .synapse import ConvBN
from .unit import SpikingUnit

__all__ = [
    "Convolution",
    "CurrentPool",
    "CurrentTokenizer",
    "ShortcutTokenizer",
    "SpikePool",
    "SpikeTokenizer",
    "spiking_stack",
]

NeuronFactory = Callable[[], Neuron]
Downsampling = Callable[[Neuron], nn.Module]


class SpikePool(nn.Module):
    """Neurons, then the maximum of their spikes over 3x3 windows of stride 2: (T, N, C, H, W) to half the size, up.

    Spikes of a window tie, so the gradient goes to the first of them in scan order, whichever current was largest.
    """

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.pool = MaxPool(3, 2, 1)

    def forward(self, current: Tensor) -> Tensor:
        spikes: Tensor = self.pool(self.neuron(current))
        return spikes


class CurrentPool(nn.Module):
    """The maximum of the currents over 3x3 windows of stride 2, then neurons, a quarter as many: CML downsampling.

    The gradient goes to the largest current of each window.
    """

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.pool = MaxPool(3, 2, 1)
        self.neuron = neuron

    def forward(self, current: Tensor) -> Tensor:
        spikes: Tensor = self.neuron(self.pool(current))
        return spikes


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution to ``channels``; ``pooled``: its neurons halve the image."""

    channels: int
    pooled: bool = False


def spiking_stack(
    in_channels: int, plan: Sequence[Convolution], neuron: NeuronFactory, downsampling: Downsampling
) -> nn.Sequential:
    """Conv-BN and neurons for every entry of ``plan``, images or spikes (T, N, C, H, W) to spikes."""
    layers: list[nn.Module] = []
    for entry in plan:
        layers += [ConvBN(in_channels, entry.channels, 3), downsampling(neuron()) if entry.pooled else neuron()]
        in_channels = entry.channels
    return nn.Sequential(*layers)


class SpikeTokenizer(nn.Module):
    """Spikformer's patch splitting: s = stack(x), then s + LIF(BN(conv(s))), which tells tokens where they are.

    Images (T, N, C, H, W) to counts 0 to 2, (T, N, D, H', W').
    """

    def __init__(
        self, in_channels: int, plan: Sequence[Convolution], neuron: NeuronFactory, downsampling: Downsampling
    ) -> None:
        super().__init__()
        dim = plan[-1].channels
        self.stack = spiking_stack(in_channels, plan, neuron, downsampling)
        self.position = SpikingUnit(neuron(), ConvBN(dim, dim, 3))

    def forward(self, images: Tensor) -> Tensor:
        spikes: Tensor = self.stack(images)
        counts: Tensor = spikes + self.position(spikes)
        return counts


class CurrentTokenizer(nn.Module):
    """Spikingformer's tokenizer: BN(conv(stack(x))). Images (T, N, C, H, W) to currents (T, N, D, H', W')."""

    def __init__(
        self, in_channels: int, plan: Sequence[Convolution], neuron: NeuronFactory, downsampling: Downsampling
    ) -> None:
        super().__init__()
        dim = plan[-1].channels
        self.stack = spiking_stack(in_channels, plan, neuron, downsampling)
        self.last = ConvBN(dim, dim, 3)

    def forward(self, images: Tensor) -> Tensor:
        currents: Tensor = self.last(self.stack(images))
        return currents


class ShortcutTokenizer(nn.Module):
    """QKFormer's patch embedding: z = stem(x), then stack(z) + LIF(BN(conv1x1(z))), strided to the same size.

    Images or counts (T, N, C, H, W) to counts 0 to 2, (T, N, D, H', W'). ``stem`` may be empty. Source: QKFormer, arXiv
    2403.16552 (SPEDS).
    """

    def __init__(
        self,
        in_channels: int,
        stem: Sequence[Convolution],
        plan: Sequence[Convolution],
        neuron: NeuronFactory,
        downsampling: Downsampling = CurrentPool,
    ) -> None:
        super().__init__()
        read = stem[-1].channels if stem else in_channels
        self.stem = spiking_stack(in_channels, stem, neuron, downsampling)
        self.stack = spiking_stack(read, plan, neuron, downsampling)
        stride = 2 ** sum(entry.pooled for entry in plan)
        self.shortcut = SpikingUnit(neuron(), ConvBN(read, plan[-1].channels, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x)
        counts: Tensor = self.stack(z) + self.shortcut(z)
        return counts
