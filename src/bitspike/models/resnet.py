"""Spiking ResNets: the shortcut is added to the current, the block's output is binary.

Block: conv-BN-LIF, conv-BN, plus shortcut, LIF. Where the shape changes the shortcut is a 1x1 conv-BN in the networks of
Q-SNN (ACM Multimedia 2024), and without parameters in the one of QP-SNN (arXiv 2502.05905).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import ChannelShortcut, ConvBN, MaxPool, Readout, SpikingUnit
from ..layers.unit import Current
from ..neurons import LIF, Neuron
from .registry import register_model

__all__ = ["BasicBlock", "SpikingResNet", "resnet18", "resnet19", "resnet20"]

NeuronFactory = Callable[[], Neuron]
ShortcutFactory = Callable[[int, int, int], Current]  # from input channels, channels and stride, where these change


def projection(in_channels: int, channels: int, stride: int) -> Current:
    """1x1 convolution and batch norm."""
    return ConvBN(in_channels, channels, 1, stride=stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut on spikes (T, N, C, H, W); spikes out."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, neuron: NeuronFactory, reshape: ShortcutFactory = projection
    ) -> None:
        super().__init__()
        shortcut: Current = nn.Identity()
        if stride != 1 or in_channels != channels:
            shortcut = reshape(in_channels, channels, stride)
        self.first = SpikingUnit(neuron(), ConvBN(in_channels, channels, 3, stride=stride))
        self.second = SpikingUnit(neuron(), ConvBN(channels, channels, 3), shortcut)

    def forward(self, spikes: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(spikes), spikes)
        return out


class SpikingResNet(nn.Module):
    """Stem, stages of blocks, global average pooling, classifier: logits (T, N, classes)."""

    def __init__(
        self,
        encoding: DirectEncoding,
        stem: nn.Sequential,
        stem_channels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        num_classes: int,
        neuron: NeuronFactory,
        reshape: ShortcutFactory = projection,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        self.stem = stem
        stages: list[nn.Module] = []
        channels = stem_channels
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for position in range(count):
                stride = 2 if stage > 0 and position == 0 else 1
                stages.append(BasicBlock(channels, width, stride, neuron, reshape))
                channels = width
        self.stages = nn.Sequential(*stages)
        self.readout = Readout(channels, num_classes, pool=True)

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.stages(self.stem(self.encoding(samples))))
        return logits


def _encoding(T: int, input_shape: Sequence[int], zero_point: Sequence[int] | None, scale: float) -> DirectEncoding:
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigError(f"input_shape is {tuple(input_shape)}, accepted: (channels, height, width)")
    if zero_point and len(zero_point) != input_shape[0]:
        raise ConfigError(
            f"zero_point is {tuple(zero_point)}, accepted: one value for each of {input_shape[0]} channels"
        )
    return DirectEncoding(T, zero_point or [0] * input_shape[0], scale)


@register_model
def resnet19(
    num_classes: int = 10,
    T: int = 2,
    input_shape: Sequence[int] = (3, 32, 32),
    width: int = 128,
    blocks: Sequence[int] = (3, 3, 2),
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = LIF,
) -> SpikingResNet:
    """ResNet-19 for CIFAR: stages of ``width``, 2·width and 4·width channels; width 128 is the published one."""
    stem = nn.Sequential(SpikingUnit(neuron(), ConvBN(input_shape[0], width, 3)))
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    widths = [width * 2**stage for stage in range(len(blocks))]
    return SpikingResNet(encoding, stem, width, widths, blocks, num_classes, neuron)


@register_model
def resnet20(
    num_classes: int = 10,
    T: int = 2,
    input_shape: Sequence[int] = (3, 32, 32),
    width: int = 64,
    blocks: Sequence[int] = (3, 3, 3),
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = LIF,
) -> SpikingResNet:
    """ResNet-20 for CIFAR with shortcuts free of parameters: a stem of ``width``, stages of 2, 4 and 8·width channels."""
    stem = nn.Sequential(SpikingUnit(neuron(), ConvBN(input_shape[0], width, 3)))
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    widths = [2 * width * 2**stage for stage in range(len(blocks))]
    return SpikingResNet(encoding, stem, width, widths, blocks, num_classes, neuron, ChannelShortcut)


@register_model
def resnet18(
    num_classes: int = 1000,
    T: int = 4,
    input_shape: Sequence[int] = (3, 224, 224),
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = LIF,
) -> SpikingResNet:
    """ResNet-18 for ImageNet: 7x7 stride-2 stem, 3x3 stride-2 max pooling, four stages of ``width`` to 8·width."""
    stem = nn.Sequential(SpikingUnit(neuron(), ConvBN(input_shape[0], width, 7, stride=2)), MaxPool(3, 2, 1))
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    widths = [width * 2**stage for stage in range(len(blocks))]
    return SpikingResNet(encoding, stem, width, widths, blocks, num_classes, neuron)
