"""Networks for images shown one column per step: one-dimensional convolutions over the height of a column.

Source: the networks of the sequential tasks of "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term
Dependencies" (NeurIPS 2023, arXiv 2304.12760)::

    [convolutions x (Conv1d k3, BN, neurons), AvgPool1d 2] x stages, Linear, neurons, Linear

The published size is 3 convolutions of 128 channels in 2 stages and 256 hidden neurons. The defaults are sized for a CPU.
Our hidden layer has a batch norm, as every linear layer here. ``encode.image_columns`` makes the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import ColumnConvBN, ColumnPool, LinearBN, Readout, SpikingUnit
from ..neurons import LIF, Neuron
from .registry import register_model

__all__ = ["SequentialNet", "sequential", "sequential_strided"]

KERNEL = 3
NeuronFactory = Callable[[], Neuron]
Stage = tuple[list[nn.Module], int]  # layers of a stage, and the height of what they give


class SequentialNet(nn.Module):
    """Columns (T, N, C, H, 1), or one column for all steps (N, C, H, 1), u8 values, to logits (T, N, classes)."""

    def __init__(self, encoding: DirectEncoding, layers: Sequence[nn.Module], hidden: int, num_classes: int) -> None:
        super().__init__()
        self.encoding = encoding
        self.features = nn.Sequential(*layers)
        self.readout = Readout(hidden, num_classes, pool=False)

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.features(self.encoding(samples)))
        return logits


def pooled_stage(in_channels: int, channels: int, height: int, convolutions: int, neuron: NeuronFactory) -> Stage:
    """Padded convolutions, then the average of every two pixels, as published."""
    layers: list[nn.Module] = []
    for position in range(convolutions):
        synapse = ColumnConvBN(channels if position else in_channels, channels, KERNEL, padding=KERNEL // 2)
        layers.append(SpikingUnit(neuron(), synapse))
    return [*layers, ColumnPool(2)], height // 2


def strided_stage(in_channels: int, channels: int, height: int, convolutions: int, neuron: NeuronFactory) -> Stage:
    """Convolutions without padding, the last one with stride 2."""
    layers: list[nn.Module] = []
    for position in range(convolutions):
        stride = 2 if position == convolutions - 1 else 1
        synapse = ColumnConvBN(channels if position else in_channels, channels, KERNEL, stride=stride)
        layers.append(SpikingUnit(neuron(), synapse))
        height = (height - KERNEL) // stride + 1
    return layers, height


@register_model
def sequential(
    num_classes: int = 10,
    T: int = 32,
    input_shape: Sequence[int] = (3, 32, 1),
    channels: int = 32,
    convolutions: int = 2,
    stages: int = 1,
    hidden: int = 64,
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = LIF,
) -> SequentialNet:
    """Column after column, as published: padded convolutions and average pooling.

    input_shape: (C, H, 1), one column. ``stages`` of ``convolutions`` layers, each stage halves the height; ``hidden``
    neurons before the classifier. It cannot be lowered: integer graphs have square windows.
    Raises ConfigError for values that make no network.
    """
    layers = _layers(pooled_stage, input_shape, channels, convolutions, stages, hidden, neuron)
    return SequentialNet(_encoding(T, input_shape, zero_point, input_scale), layers, hidden, num_classes)


@register_model
def sequential_strided(
    num_classes: int = 10,
    T: int = 32,
    input_shape: Sequence[int] = (3, 32, 1),
    channels: int = 32,
    convolutions: int = 2,
    stages: int = 1,
    hidden: int = 64,
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = LIF,
) -> SequentialNet:
    """The deployable form of :func:`sequential`: convolutions without padding, a stride of 2 instead of pooling.

    Raises ConfigError for values that make no network.
    """
    layers = _layers(strided_stage, input_shape, channels, convolutions, stages, hidden, neuron)
    return SequentialNet(_encoding(T, input_shape, zero_point, input_scale), layers, hidden, num_classes)


def _layers(
    stage: Callable[[int, int, int, int, NeuronFactory], Stage],
    input_shape: Sequence[int],
    channels: int,
    convolutions: int,
    stages: int,
    hidden: int,
    neuron: NeuronFactory,
) -> list[nn.Module]:
    sizes = {"channels": channels, "convolutions": convolutions, "stages": stages, "hidden": hidden}
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}, accepted: 1 or more")
    in_channels, height, _ = _shape(input_shape)
    layers: list[nn.Module] = []
    for _ in range(stages):
        more, height = stage(in_channels, channels, height, convolutions, neuron)
        if height < 1:
            raise ConfigError(
                f"{stages} stages of {convolutions} convolutions leave nothing of a column of {input_shape[1]}"
            )
        layers += more
        in_channels = channels
    layers.append(SpikingUnit(neuron(), LinearBN(channels * height, hidden)))
    return layers


def _encoding(T: int, input_shape: Sequence[int], zero_point: Sequence[int] | None, scale: float) -> DirectEncoding:
    channels = _shape(input_shape)[0]
    if zero_point and len(zero_point) != channels:
        raise ConfigError(f"zero_point is {tuple(zero_point)}, accepted: one value for each of {channels} channels")
    return DirectEncoding(T, zero_point or [0] * channels, scale)


def _shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(input_shape) != 3 or min(input_shape) < 1 or input_shape[2] != 1:
        raise ConfigError(f"input_shape is {tuple(input_shape)}, accepted: (channels, height, 1), one column")
    return input_shape[0], input_shape[1], 1
