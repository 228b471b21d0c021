"""GL-SPS: tokens from sums of a convolution of neighbours (local) and one whose taps stand apart (global).

Source: "Spiking Vision Transformer with Saccadic Attention" (SNN-ViT, ICLR 2025, arXiv 2502.12677), whose widths, dilations and
number of stages are not known to us; what is here is our reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .pool import MaxPool
from .synapse import ConvBN
from .tokenizer import Convolution, Downsampling, NeuronFactory

__all__ = ["GlobalLocalConv", "StagedTokenizer", "local_conv"]


class GlobalLocalConv(nn.Module):
    """BN(conv3x3(x)) + BN(conv3x3 of dilation 2 (x)): images or spikes (T, N, C_in, H, W) to currents (T, N, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.near = ConvBN(in_channels, out_channels, 3)
        self.wide = ConvBN(in_channels, out_channels, 3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        current: Tensor = self.near(x) + self.wide(x)
        return current


def local_conv(in_channels: int, out_channels: int) -> ConvBN:
    """The near half of :class:`GlobalLocalConv` alone."""
    return ConvBN(in_channels, out_channels, 3)


class StagedTokenizer(nn.Module):
    """``convolution(C_in, C_out)`` and neurons for every entry of ``plan``; the last entry's neurons are left to the reader.

    Images (T, N, C, H, W) to currents (T, N, D, H', W'). The last currents are pooled, where ``plan`` says so, and begin a
    stream whose blocks put neurons in front of what they compute.
    """

    def __init__(
        self,
        in_channels: int,
        plan: Sequence[Convolution],
        convolution: Callable[[int, int], nn.Module],
        neuron: NeuronFactory,
        downsampling: Downsampling,
    ) -> None:
        super().__init__()
        widths = [in_channels, *(entry.channels for entry in plan)]
        layers: list[nn.Module] = []
        for channels, entry in zip(widths, plan[:-1], strict=False):
            layers += [
                convolution(channels, entry.channels),
                downsampling(neuron()) if entry.pooled else neuron(),
            ]
        self.stack = nn.Sequential(*layers)
        self.last = convolution(*widths[-2:])
        self.pool = MaxPool(3, 2, 1) if plan[-1].pooled else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        currents: Tensor = self.pool(self.last(self.stack(images)))
        return currents
