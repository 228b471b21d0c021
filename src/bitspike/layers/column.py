"""One-dimensional convolution and pooling, over the height of maps (T, N, C, H, W): windows of k x 1."""

from __future__ import annotations

from torch import Tensor, nn

from .norm import SequenceBatchNorm, over_time, repeats
from .synapse import Synapse

__all__ = ["ColumnConvBN", "ColumnPool"]


class ColumnConvBN(Synapse):
    """Convolution (C_in -> C_out, kernel x 1, no bias) and batch norm on (T, N, C_in, H, W).

    padding: zeros above and below. Integer graphs pad all sides alike: what is to be lowered has none.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.layer: nn.Conv2d = nn.Conv2d(
            in_channels, out_channels, (kernel, 1), stride=stride, padding=(padding, 0), bias=False
        )
        self.norm = SequenceBatchNorm(out_channels)
        nn.init.normal_(self.layer.weight, std=(2.0 / (kernel * out_channels)) ** 0.5)  # He, by fan-out, as in ConvBN

    def forward(self, x: Tensor) -> Tensor:
        return over_time(lambda step: self.norm(self.layer(step), repeats(x)), x)


class ColumnPool(nn.AvgPool2d):
    """Averages of ``kernel`` pixels one above the other, on (T, N, C, H, W)."""

    no_integer_form = "it pools windows of k x 1, and integer graphs have square ones"

    def __init__(self, kernel: int) -> None:
        super().__init__((kernel, 1))

    def forward(self, input: Tensor) -> Tensor:
        return over_time(super().forward, input)
