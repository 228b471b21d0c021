"""Pooling of spikes over pixels, step by step."""

from __future__ import annotations

from torch import Tensor, nn

from .norm import over_time

__all__ = ["AvgPool", "MaxPool"]


class MaxPool(nn.MaxPool2d):
    """Max pooling on (T, N, C, H, W); of spikes: 1 where any spike lies in the window."""

    def forward(self, input: Tensor) -> Tensor:
        return over_time(super().forward, input)


class AvgPool(nn.AvgPool2d):
    """Average pooling on (T, N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return over_time(super().forward, input)
