"""Pooling of spikes over pixels, step by step."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..ops import bit_avg_pool2d, bit_max_pool2d
from .norm import over_time

__all__ = ["AvgPool", "MaxPool"]


class MaxPool(nn.MaxPool2d):
    """Max pooling on (T, N, C, H, W); of spikes: 1 where any spike lies in the window."""

    def forward(self, input: Tensor) -> Tensor:
        window = (_pair(w) for w in (self.kernel_size, self.stride, self.padding, self.dilation))
        geometry = (*window, self.ceil_mode)
        return over_time(lambda step: bit_max_pool2d(step, *geometry), input)


class AvgPool(nn.AvgPool2d):
    """Average pooling on (T, N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        window = (_pair(w) for w in (self.kernel_size, self.stride, self.padding))
        geometry = (*window, self.ceil_mode, self.count_include_pad, self.divisor_override)
        return over_time(lambda step: bit_avg_pool2d(step, *geometry), input)
