"""The spike function and its surrogate gradients.

A spike is the Heaviside step of the distance to threshold. Its derivative is zero almost everywhere, so training
replaces it by the derivative of a surrogate, chosen here as a small frozen object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["SURROGATES", "ATan", "Rectangle", "Sigmoid", "Surrogate", "Triangle", "reach", "spike"]


class Surrogate(Protocol):
    """What stands in for the derivative of the step."""

    def derivative(self, distance: Tensor) -> Tensor:
        """d spike / d distance, same shape as ``distance`` (membrane minus threshold)."""
        ...


@dataclass(frozen=True)
class Triangle:
    """max(0, width - |v|) / width^2 (Q-SNN uses width 1)."""

    width: float = 1.0

    def derivative(self, distance: Tensor) -> Tensor:
        # In place on one temporary: this runs on every membrane of every step.
        return distance.abs().neg_().add_(self.width).clamp_min_(0).div_(self.width**2)


@dataclass(frozen=True)
class Sigmoid:
    """slope * s * (1 - s) with s = sigmoid(slope * v)."""

    slope: float = 4.0

    def derivative(self, distance: Tensor) -> Tensor:
        s = torch.sigmoid(self.slope * distance)
        return self.slope * s * (1 - s)


@dataclass(frozen=True)
class ATan:
    """(slope / 2) / (1 + (pi / 2 * slope * v)^2): the derivative of an arctangent step."""

    slope: float = 2.0

    def derivative(self, distance: Tensor) -> Tensor:
        return self.slope / 2 / (1 + (math.pi / 2 * self.slope * distance) ** 2)


@dataclass(frozen=True)
class Rectangle:
    """1 / width where |v| < width / 2, else 0."""

    width: float = 1.0

    def derivative(self, distance: Tensor) -> Tensor:
        return (distance.abs() < self.width / 2).to(distance.dtype) / self.width


SURROGATES: dict[str, type] = {"triangle": Triangle, "sigmoid": Sigmoid, "atan": ATan, "rectangle": Rectangle}


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (distance,) = ctx.saved_tensors
        return gradients[0] * ctx.surrogate.derivative(distance), None


def spike(distance: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where ``distance`` > 0 (strictly), else 0, in the dtype of ``distance``; backward by ``surrogate``."""
    result: Tensor = _Step.apply(distance, surrogate)
    return result


class _Reached(_Step):
    @staticmethod
    def forward(ctx: Any, distance: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return (distance >= 0).to(distance.dtype)


def reach(distance: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where ``distance`` >= 0, else 0: like :func:`spike`, but reaching the threshold is enough.

    On currents from batch norm there is no difference; on sums of spikes, which often meet a threshold exactly, there is.
    """
    result: Tensor = _Reached.apply(distance, surrogate)
    return result
