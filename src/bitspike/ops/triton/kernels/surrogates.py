"""Derivatives of the surrogates, as functions that a kernel takes as a compile-time argument.

Each maps a distance to threshold and the surrogate's one parameter, of one floating dtype, to the derivative.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["DERIVATIVES"]


@triton.jit
def _triangle(distance, width):
    return tl.maximum(width - tl.abs(distance), 0.0) / (width * width)


@triton.jit
def _sigmoid(distance, slope):
    # exp of minus the magnitude cannot overflow, and s * (1 - s) is even in the distance.
    decay = tl.exp(-tl.abs(slope * distance))
    return slope * decay / ((1.0 + decay) * (1.0 + decay))


@triton.jit
def _atan(distance, slope):
    scaled = 1.5707963267948966 * slope * distance
    return slope / 2 / (1.0 + scaled * scaled)


@triton.jit
def _rectangle(distance, width):
    return tl.where(tl.abs(distance) < width / 2, 1.0 / width, 0.0)


DERIVATIVES = (_triangle, _sigmoid, _atan, _rectangle)  # in the order of ops.native.memory.SURROGATES
