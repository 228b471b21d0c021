"""Synapses: stateless maps from spikes (T, N, ...) to currents (T, N, ...)."""

from __future__ import annotations

from torch import Tensor, nn

from .norm import SequenceBatchNorm, over_time, repeats
from .weighted import SpikeConv2d, SpikeLinear

__all__ = ["ConvBN", "LinearBN", "Synapse"]


class Synapse(nn.Module):
    """``layer`` (weights, seldom a bias) followed by ``norm``; both run over the merged T·N axis."""

    layer: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm2d

    def forward(self, x: Tensor) -> Tensor:
        raise TypeError("use ConvBN or LinearBN")


class ConvBN(Synapse):
    """Convolution (C_in -> C_out, square kernel) and batch norm on (T, N, C_in, H, W).

    bias: some published networks give their first convolution one, although batch norm takes it out again.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2) if padding is None else padding
        self.layer: nn.Conv2d = SpikeConv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.norm = SequenceBatchNorm(out_channels)
        # He initialisation by fan-out, as in the released code of Q-SNN and QP-SNN.
        nn.init.normal_(self.layer.weight, std=(2.0 / (kernel * kernel * out_channels)) ** 0.5)
        if self.layer.bias is not None:
            nn.init.zeros_(self.layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return over_time(lambda step: self.norm(self.layer(step), repeats(x)), x)


class LinearBN(Synapse):
    """Linear layer (no bias) on the flattened features and batch norm: (T, N, ...) -> (T, N, M, 1, 1)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.layer: nn.Linear = SpikeLinear(in_features, out_features, bias=False)
        self.norm = SequenceBatchNorm(out_features)
        nn.init.normal_(self.layer.weight, std=in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return over_time(lambda step: self.norm(self.layer(step.flatten(1))[..., None, None], repeats(x)), x)
