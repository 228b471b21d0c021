"""A shortcut without parameters between blocks of different shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError

__all__ = ["ChannelShortcut"]


class ChannelShortcut(nn.Module):
    """Spikes (T, N, C, H, W) to (T, N, M, ceil(H / stride), ceil(W / stride)), copied or left out.

    Every ``stride``-th row and column is read. The C channels stand in the middle of the M: M - C zero channels are
    added, half of them (rounded down) before and the rest after. Parameter-free; the shortcut of CIFAR ResNets, known
    as option A in "Deep Residual Learning for Image Recognition" (arXiv 1512.03385).

    ``sources`` (M,) says which input channel each output channel copies, -1 for none: removing channels changes it.
    Raises ConfigError for M below C.
    """

    sources: Tensor

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        if not 1 <= in_channels <= out_channels:
            raise ConfigError(f"ChannelShortcut from {in_channels} to {out_channels} channels, accepted: not fewer")
        if stride < 1:
            raise ConfigError(f"ChannelShortcut stride is {stride}, accepted: 1 or more")
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        before = (out_channels - in_channels) // 2
        sources = torch.full((out_channels,), -1)
        sources[before : before + in_channels] = torch.arange(in_channels)
        self.register_buffer("sources", sources)

    def forward(self, x: Tensor) -> Tensor:
        read = x[..., :: self.stride, :: self.stride]
        present = (self.sources >= 0).to(x.dtype).view(-1, 1, 1)
        return read.index_select(2, self.sources.clamp_min(0)) * present

    def weight(self) -> Tensor:
        """The 1x1 convolution of the same ``stride`` that this is: (M, C, 1, 1) of zeros and ones."""
        channels = torch.arange(self.in_channels, device=self.sources.device)
        return (self.sources[:, None] == channels).float()[..., None, None]

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"
