"""ResNets with a shortcut around every convolution, for 1-bit weights; the layout is our reading.

Of "A Self-Ensemble Inspired Approach for Effective Training of Binary-Weight Spiking Neural Networks" (arXiv 2508.12609)
only the abstract is known: it names "multiple shortcuts". Binary networks (Bi-Real Net, ReActNet) give each convolution
its own. Here that is done in two ways; spikes stay binary in both::

    sei_resnet        x_k = shortcut(x_{k-1}) + BN(conv(LIF(x_{k-1})))      a stream of real-valued currents
    sei_resnet_spike  s_k = LIF(shortcut(s_{k-1}) + BN(conv(s_{k-1})))      shortcuts carry spikes, so all edges do
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import AvgPool, ConvBN, Copies, Current, Readout, SpikingUnit, expands
from ..layers.trace import Recorder, Traced
from ..neurons import LIF, Neuron
from ..ops import Rectangle
from .registry import register_model
from .resnet import NeuronFactory, _encoding

__all__ = [
    "CurrentStream",
    "CurrentUnit",
    "MultiShortcutResNet",
    "SpikeUnit",
    "sei_resnet",
    "sei_resnet_spike",
    "self_ensemble_neuron",
]


def self_ensemble_neuron() -> LIF:
    """Soft reset, rectangular surrogate of the threshold's width, no gradient through time (SLTT, ICCV 2023)."""
    return LIF(reset="soft", surrogate=Rectangle(), temporal_gradient="spatial")


class PooledCopy(nn.Module):
    """Currents (T, N, C, H, W) averaged over 2x2 pixels (fewer at odd edges), and channels repeated ``copies`` times."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies
        self.pool = AvgPool(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.pool(x)] * self.copies, 2)


@expands(PooledCopy)
def _pooled_copy(to: Recorder, name: str, module: PooledCopy, inputs: tuple[Traced, ...]) -> Traced:
    return to.add(f"{name}.copies", Copies(module.copies), to.call(f"{name}.pool", module.pool, *inputs))


class PooledConv(nn.Module):
    """Currents (T, N, C, H, W) averaged over 2x2 pixels (fewer at odd edges), then a 1x1 convolution with batch norm."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.pool = AvgPool(2, ceil_mode=True)
        self.conv = ConvBN(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.pool(x))
        return out


DOWNSAMPLINGS: dict[str, Callable[[int, int], nn.Module]] = {
    "copy": lambda in_channels, channels: PooledCopy(channels // in_channels),
    "conv": PooledConv,
}


class CurrentUnit(nn.Module):
    """x -> shortcut(x) + BN(conv(neuron(x))) on currents (T, N, C, H, W)."""

    def __init__(self, neuron: Neuron, synapse: ConvBN, shortcut: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.neuron = neuron
        self.synapse = synapse

    def forward(self, current: Tensor) -> Tensor:
        total: Tensor = self.shortcut(current) + self.synapse(self.neuron(current))
        return total


class CurrentStream(nn.Sequential):
    """A first convolution, units that add to its current, and neurons that turn the sum into spikes."""


class SpikeUnit(nn.Module):
    """Neurons on BN(conv(s)) + shortcut(s) for spikes s (T, N, C, H, W)."""

    def __init__(self, neuron: Neuron, synapse: ConvBN, shortcut: Current) -> None:
        super().__init__()
        self.unit = SpikingUnit(neuron, synapse, shortcut)

    def forward(self, spikes: Tensor) -> Tensor:
        out: Tensor = self.unit(spikes, spikes)
        return out


class MultiShortcutResNet(nn.Module):
    """Samples (N, C, H, W) or frames (T, N, C, H, W) to logits (T, N, classes): trunk, average over pixels, classifier."""

    def __init__(self, encoding: DirectEncoding, trunk: nn.Sequential, channels: int, num_classes: int) -> None:
        super().__init__()
        self.encoding = encoding
        self.trunk = trunk
        self.readout = Readout(channels, num_classes, pool=True)

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.trunk(self.encoding(samples)))
        return logits


@register_model
def sei_resnet(
    num_classes: int = 10,
    T: int = 4,
    input_shape: Sequence[int] = (3, 32, 32),
    width: int = 64,
    units: Sequence[int] = (4, 4, 4, 4),
    downsampling: str = "copy",
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = self_ensemble_neuron,
) -> MultiShortcutResNet:
    """Shortcuts on currents. Stages of ``width``, 2·width, ... channels with ``units`` convolutions each; ResNet-18's.

    downsampling: the shortcut where a stage halves the image: averages over 2x2 pixels, then "copy" (channels twice)
        or "conv" (a 1x1 convolution).
    Deployed, currents between units are fixed-point numbers; "conv", and sizes that it halves unevenly, cannot be lowered.
    Raises ConfigError for values that make no network.
    """
    if downsampling not in DOWNSAMPLINGS:
        raise ConfigError(f"downsampling is {downsampling!r}, accepted: {', '.join(DOWNSAMPLINGS)}")
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    plan = _plan(width, units)
    trunk: list[nn.Module] = [ConvBN(input_shape[0], width, 3)]
    for in_channels, channels, stride in plan:
        shortcut = nn.Identity() if stride == 1 else DOWNSAMPLINGS[downsampling](in_channels, channels)
        trunk.append(CurrentUnit(neuron(), ConvBN(in_channels, channels, 3, stride=stride), shortcut))
    trunk.append(neuron())
    return MultiShortcutResNet(encoding, CurrentStream(*trunk), plan[-1][1], num_classes)


@register_model
def sei_resnet_spike(
    num_classes: int = 10,
    T: int = 4,
    input_shape: Sequence[int] = (3, 32, 32),
    width: int = 64,
    units: Sequence[int] = (4, 4, 4, 4),
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = self_ensemble_neuron,
) -> MultiShortcutResNet:
    """A leaner form of :func:`sei_resnet` to deploy: shortcuts carry the incoming spikes to the unit's own current.

    Where a stage halves the image the shortcut is a 1x1 convolution with stride 2, as in ``resnet19``.
    Raises ConfigError for values that make no network.
    """
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    plan = _plan(width, units)
    trunk: list[nn.Module] = [SpikingUnit(neuron(), ConvBN(input_shape[0], width, 3))]
    for in_channels, channels, stride in plan:
        shortcut = nn.Identity() if stride == 1 else ConvBN(in_channels, channels, 1, stride=stride)
        trunk.append(SpikeUnit(neuron(), ConvBN(in_channels, channels, 3, stride=stride), shortcut))
    return MultiShortcutResNet(encoding, nn.Sequential(*trunk), plan[-1][1], num_classes)


def _plan(width: int, units: Sequence[int]) -> list[tuple[int, int, int]]:
    """(input channels, channels, stride) of every unit."""
    if width < 1 or not units or min(units) < 1:
        raise ConfigError(f"width is {width}, units {tuple(units)}, accepted: 1 or more, of at least one stage")
    widths = [width * 2**stage for stage, count in enumerate(units) for _ in range(count)]
    before = [width, *widths[:-1]]
    return [(old, new, 1 if old == new else 2) for old, new in zip(before, widths, strict=True)]
