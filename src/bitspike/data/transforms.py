"""Augmentations on batches of bytes, each sample's own random numbers addressed by (seed, epoch, index).

What happens to a sample therefore does not depend on the batch it travels in, on the number of
processes or on their order. All random words of an epoch are drawn at once and looked up by index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bitspike.data.autoaugment import WORDS_PER_IMAGE, autoaugment_cifar10
from bitspike.data.draws import below, words
from bitspike.data.errors import DataError, require_int, unknown
from bitspike.data.spec import DataSpec

__all__ = ["AUGMENTATIONS", "Augment", "Augmentation", "BatchTransform"]

# (batch uint8 (B, …), random words uint64 (B, K), spec) -> batch of the same shape
Apply = Callable[[np.ndarray, np.ndarray, DataSpec], np.ndarray]
# (batch uint8 (B, …), sample indices int64 (B,)) -> batch of the same shape
BatchTransform = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Augmentation:
    """A batch function, the random words it takes per sample, and what it can be applied to."""

    apply: Apply
    words: int
    frames: bool = False  # for (N, T, C, H, W) rather than (N, C, H, W)
    min_side: int = 1
    channels: int | None = None  # None: any number


def _zero(spec: DataSpec) -> np.ndarray:
    """The bytes that mean zero, (C, 1, 1): what the network sees outside the picture."""
    return np.array(spec.zero_point, np.uint8)[:, None, None]


def _crop(pad: int) -> Augmentation:
    """Pad every side by `pad` and cut out a window of the original size, each position equally likely."""

    def apply(batch: np.ndarray, raw: np.ndarray, spec: DataSpec) -> np.ndarray:
        n, c, h, w = batch.shape
        padded = np.empty((n, c, h + 2 * pad, w + 2 * pad), np.uint8)
        padded[:] = _zero(spec)
        padded[:, :, pad : pad + h, pad : pad + w] = batch
        shift = below(raw, 2 * pad + 1)
        windows = sliding_window_view(padded, (h, w), axis=(2, 3))
        return windows[np.arange(n), :, shift[:, 0], shift[:, 1]]

    return Augmentation(apply, words=2)


def _flip(batch: np.ndarray, raw: np.ndarray, spec: DataSpec) -> np.ndarray:
    """Mirror left-right with probability 1/2; all frames of a recording alike."""
    mirrored = below(raw[:, 0], 2) == 1
    result = batch.copy()
    result[mirrored] = batch[mirrored][..., ::-1]
    return result


def _cutout(size: int) -> Augmentation:
    """Blank one `size` x `size` square centred anywhere, clipped at the border (DeVries and Taylor, 2017)."""

    def covered(centre: np.ndarray, length: int) -> np.ndarray:
        offset = np.arange(length) - centre[:, None]
        return (offset >= -(size // 2)) & (offset < size - size // 2)

    def apply(batch: np.ndarray, raw: np.ndarray, spec: DataSpec) -> np.ndarray:
        h, w = batch.shape[-2:]
        rows = covered(below(raw[:, 0], h), h)
        columns = covered(below(raw[:, 1], w), w)
        hole = rows[:, None, :, None] & columns[:, None, None, :]
        return np.where(hole, _zero(spec), batch)

    # On a smaller picture the square could blank all of it.
    return Augmentation(apply, words=2, min_side=size + 1)


def _roll(reach: int) -> Augmentation:
    """Shift all frames of a recording by up to `reach` pixels each way, around the edges."""

    def apply(batch: np.ndarray, raw: np.ndarray, spec: DataSpec) -> np.ndarray:
        n, _, _, h, w = batch.shape
        shift = below(raw, 2 * reach + 1) - reach
        rows = (np.arange(h) - shift[:, :1]) % h
        columns = (np.arange(w) - shift[:, 1:]) % w
        # Index arrays (N, H, 1) and (N, 1, W) around two slices: their axes come first in the result.
        picked = batch[np.arange(n)[:, None, None], :, :, rows[:, :, None], columns[:, None, :]]
        return np.ascontiguousarray(picked.transpose(0, 3, 4, 1, 2))

    return Augmentation(apply, words=2, frames=True)


AUGMENTATIONS: dict[str, Augmentation] = {
    "autoaugment-cifar10": Augmentation(autoaugment_cifar10, words=WORDS_PER_IMAGE, channels=3),
    "crop1": _crop(1),
    "crop2": _crop(2),
    "crop4": _crop(4),
    "cutout16": _cutout(16),
    "cutout8": _cutout(8),
    "event-flip": Augmentation(_flip, words=1, frames=True),
    "event-roll5": _roll(5),
    "flip": Augmentation(_flip, words=1),
}


def _check(name: str, spec: DataSpec) -> Augmentation:
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    augmentation = AUGMENTATIONS[name]
    if augmentation.frames != (spec.time_steps is not None):
        kind = "event frames" if augmentation.frames else "images"
        raise DataError(f"augmentation {name!r} works on {kind}; {spec.name} samples are {spec.sample_shape}")
    if min(spec.shape[1:]) < augmentation.min_side:
        raise DataError(
            f"augmentation {name!r} takes pictures of at least {augmentation.min_side} pixels a side; "
            f"{spec.name} has {spec.shape}"
        )
    if augmentation.channels not in (None, spec.shape[0]):
        raise DataError(
            f"augmentation {name!r} takes {augmentation.channels} channels; {spec.name} has {spec.shape[0]}"
        )
    return augmentation


class Augment:
    """A chain of augmentations by name, applied in the order given.

    Raises DataError for an unknown name or one that does not fit the data set.
    """

    def __init__(self, names: Sequence[str], spec: DataSpec, seed: int) -> None:
        if isinstance(names, str):
            raise DataError(f"augmentations {names!r} must be a list of names, not one string")
        self._chain = [_check(name, spec) for name in names]
        self.names = tuple(names)
        self.spec = spec
        self.seed = require_int("seed", seed, 0, 2**64 - 1)

    def for_epoch(self, epoch: int, n_train: int) -> BatchTransform:
        """The transform of one epoch over `n_train` samples: (batch (B, …), indices (B,)) -> batch (B, …).

        It never changes the batch it is given. It raises DataError if the batch is not uint8 of the
        described shape or an index is not from 0 to n_train - 1.
        """
        spec = self.spec
        draws = [
            (step.apply, words(self.seed, f"augment-{position}-{name}", epoch, (n_train, step.words)))
            for position, (name, step) in enumerate(zip(self.names, self._chain, strict=True))
        ]

        def transform(batch: np.ndarray, indices: np.ndarray) -> np.ndarray:
            if batch.dtype != np.uint8 or batch.shape[1:] != spec.sample_shape or len(batch) != len(indices):
                raise DataError(
                    f"augmenting got {batch.dtype} {batch.shape} with {len(indices)} indices; "
                    f"accepted: uint8 {('N', *spec.sample_shape)} with N indices"
                )
            if len(indices) and (indices.min() < 0 or indices.max() >= n_train):
                found = f"{indices.min()} to {indices.max()}"
                raise DataError(f"sample indices {found}; accepted: 0 to {n_train - 1}")
            for apply, raw in draws:
                batch = apply(batch, raw[indices], spec)
            return batch

        return transform
