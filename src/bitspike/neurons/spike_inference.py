"""What a layer makes of an integer-valued neuron's binary spikes: sums of its weights, and a constant.

With weights W that read the output (rest + count) / N of a neuron, W out = sum_d W s[d] / N + W rest / N: the first part adds
a weight per spike, the second is a constant of the layer. For a convolution the constant is that of a constant map with
the convolution's own padding, so that it differs at the borders.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from .integer import IntegerLIF

__all__ = ["resting_current", "spike_currents"]


def spike_currents(layer: nn.Module, neuron: IntegerLIF, spikes: Tensor) -> Tensor:
    """``layer(neuron(current))`` (T, N, ...), from ``spikes`` (T * D, N, ...) as :meth:`IntegerLIF.spikes` gives them.

    layer: Conv1d, Conv2d, Conv3d or Linear, with its bias. Raises ConfigError for another.
    """
    sums = _weighted(layer, spikes.flatten(0, 1)).unflatten(0, (-1, neuron.largest, spikes.shape[1])).sum(1)
    return sums / neuron.divisor + resting_current(layer, neuron, spikes.shape[2:])


def resting_current(layer: nn.Module, neuron: IntegerLIF, shape: torch.Size) -> Tensor:
    """The constant (...) that ``layer`` adds to every step for inputs of ``shape`` (...): its bias, and W rest / N."""
    weight = layer.get_parameter("weight")
    silence = torch.full((1, *shape), neuron.rest / neuron.divisor, dtype=weight.dtype, device=weight.device)
    constant: Tensor = layer(silence)[0]
    return constant


def _weighted(layer: nn.Module, x: Tensor) -> Tensor:
    match layer:
        case nn.Linear():
            return F.linear(x, layer.weight)
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return layer._conv_forward(x, layer.weight, None)
        case _:
            raise ConfigError(f"layer is a {type(layer).__name__}, accepted: Conv1d, Conv2d, Conv3d, Linear")
