"""From the bytes of a batch to what a network takes. Torch is imported on first use only."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bitspike.data.errors import DataError
from bitspike.data.spec import DataSpec

if TYPE_CHECKING:
    import torch

__all__ = ["normalize", "to_time_leading"]

Array = TypeVar("Array", "torch.Tensor", np.ndarray)


def normalize(x_u8: torch.Tensor, spec: DataSpec) -> torch.Tensor:
    """Real-valued input `(q - zero_point[c]) * scale` as float32, on the device of `x_u8`.

    `x_u8` is uint8 (…, C, H, W) with any leading axes. The difference is exact in float32, so each
    value is rounded once. Raises DataError for another dtype or other last three axes.
    """
    import torch

    if x_u8.dtype != torch.uint8 or tuple(x_u8.shape[-3:]) != spec.shape:
        raise DataError(
            f"normalize got {x_u8.dtype} {tuple(x_u8.shape)}; "
            f"accepted for {spec.name}: torch.uint8 (..., {', '.join(map(str, spec.shape))})"
        )
    zero = torch.tensor(spec.zero_point, dtype=torch.float32, device=x_u8.device)
    return (x_u8.to(torch.float32) - zero[:, None, None]) * spec.scale


def to_time_leading(frames: Array) -> Array:
    """(N, T, C, H, W) -> (T, N, C, H, W), a view, for a tensor or a numpy array alike.

    Raises DataError if there are not five axes.
    """
    if frames.ndim != 5:
        raise DataError(f"frames have shape {tuple(frames.shape)}; accepted: (N, T, C, H, W)")
    return frames.swapaxes(0, 1)
