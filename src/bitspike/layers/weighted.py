"""Weight layers that read spikes: torch's own, which keep their input for backward as bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops import bit_linear, spike_conv2d

__all__ = ["SpikeConv2d", "SpikeLinear"]


class SpikeConv2d(nn.Conv2d):
    """``nn.Conv2d``: same outputs and gradients; of an input of spikes only the bits are kept for backward.

    Inside ``winograd_convolutions()`` they are the same up to rounding, where that is faster.

    On a CPU in float32 channels stand last in memory, also in what follows: the layout convolutions are fastest in.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.padding_mode != "zeros" or isinstance(self.padding, str) or input.dim() != 4:
            return super()._conv_forward(input, weight, bias)
        geometry = self.stride, self.padding, self.dilation, self.groups
        return spike_conv2d(_channels_last(input), weight, bias, *geometry)


class SpikeLinear(nn.Linear):
    """``nn.Linear``: same outputs and gradients; of an input of spikes only the bits are kept for backward."""

    def forward(self, input: Tensor) -> Tensor:
        return bit_linear(input, self.weight, self.bias)


def _channels_last(x: Tensor) -> Tensor:
    """Also without gradients: the layout decides last bits, and a pass that is repeated must give the same spikes."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if traced or x.device.type != "cpu" or x.dtype != torch.float32:
        return x
    return x.contiguous(memory_format=torch.channels_last)
