"""What a data set is: its description, its splits, and the three splits together.

Inputs stay unsigned bytes from the file to the network. The real value of byte `q` in channel `c` is
`(q - zero_point[c]) * scale`: an integer offset and one shared scale, so that an integer engine can
compute on the bytes themselves and differ in no bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitspike.data.errors import DataError

__all__ = ["DataBundle", "DataSpec", "Split", "affine_u8"]


def affine_u8(mean: Sequence[float], std: Sequence[float]) -> tuple[tuple[int, ...], float]:
    """(zero_point, scale) closest to standardising [0, 1] pixels by `mean` and `std`, one number per channel.

    The zero point is the mean rounded to a byte; the scale uses the mean of the channel deviations.
    """
    return tuple(round(255 * m) for m in mean), 1 / (255 * (sum(std) / len(std)))


@dataclass(frozen=True)
class DataSpec:
    """Shape, classes and number format of one data set.

    `shape` is (channels, height, width); `time_steps` is None for images, else the number of frames;
    `augment` names the customary training augmentations (see `AUGMENTATIONS`).
    Raises DataError if the fields contradict each other.
    """

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    zero_point: tuple[int, ...]
    scale: float
    time_steps: int | None = None
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise DataError(f"{self.name}: shape {self.shape}; accepted: (channels, height, width), each >= 1")
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise DataError(f"{self.name}: classes must be at least one and distinct, not {self.classes}")
        if len(self.zero_point) != self.shape[0] or not all(0 <= z <= 255 for z in self.zero_point):
            raise DataError(f"{self.name}: zero_point {self.zero_point} must hold {self.shape[0]} values from 0 to 255")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise DataError(f"{self.name}: scale {self.scale} must be positive and finite")
        if self.time_steps is not None and self.time_steps < 1:
            raise DataError(f"{self.name}: time_steps {self.time_steps} must be None or at least 1")

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W) for images, (T, C, H, W) for frames."""
        return self.shape if self.time_steps is None else (self.time_steps, *self.shape)


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their labels.

    `inputs` is uint8 (N, C, H, W) or (N, T, C, H, W); `labels` is int64 (N,), none negative.
    Raises DataError for any other dtype, rank or length.
    """

    inputs: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.inputs.dtype != np.uint8 or self.inputs.ndim not in (4, 5):
            raise DataError(
                f"inputs are {self.inputs.dtype} {self.inputs.shape}; accepted: uint8 (N, C, H, W) or (N, T, C, H, W)"
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.inputs.shape[:1]:
            raise DataError(
                f"labels are {self.labels.dtype} {self.labels.shape}; accepted: int64 ({len(self.inputs)},)"
            )
        if len(self.labels) and self.labels.min() < 0:
            raise DataError(f"label {self.labels.min()} is negative")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        """A new split holding copies of the samples at `indices` (M,), in that order."""
        return Split(self.inputs[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class DataBundle:
    """A data set ready for training: description and three disjoint splits.

    Raises DataError if a split's samples do not have the described shape or a label has no class.
    """

    spec: DataSpec
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        for role, split in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if split.inputs.shape[1:] != self.spec.sample_shape:
                raise DataError(
                    f"{self.spec.name}: {role} samples have shape {split.inputs.shape[1:]}; "
                    f"accepted: {self.spec.sample_shape}"
                )
            if len(split) and split.labels.max() >= self.spec.num_classes:
                raise DataError(
                    f"{self.spec.name}: {role} label {split.labels.max()}; accepted: 0 to {self.spec.num_classes - 1}"
                )
