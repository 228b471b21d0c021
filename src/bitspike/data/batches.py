"""Batches of a split: the same global order whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bitspike.data.draws import permutation
from bitspike.data.errors import DataError, require_int
from bitspike.data.spec import Split
from bitspike.data.transforms import Augment

__all__ = ["epoch_batches", "num_batches"]


def num_batches(n: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Batches (training steps) per epoch over `n` samples. Raises DataError unless batch_size >= 1."""
    size = require_int("batch_size", batch_size, 1)
    return n // size if drop_last else -(-n // size)


def epoch_batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    augment: Augment | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (inputs uint8 (B, …), labels int64 (B,), indices int64 (B,)) for one epoch and one rank.

    The global order depends on (seed, epoch) alone, or is the stored one without `shuffle`. Each global
    batch of `batch_size` samples is divided contiguously among the ranks, so that the ranks together
    compute exactly the batch one process would; every rank gets the same number of batches. A last,
    short batch is divided as evenly as it can be, which may leave a rank with an empty share: pass
    `drop_last` when training in several processes. The arrays are copies and may be modified.

    Raises DataError, at the call, if batch_size does not divide by world_size or a number is out of range.
    """
    total = num_batches(len(split), batch_size, drop_last=drop_last)
    world = require_int("world_size", world_size, 1)
    rank = require_int("rank", rank, 0, world - 1)
    if batch_size % world:
        raise DataError(f"batch_size {batch_size} does not divide among {world} processes; accepted: multiples")
    order = permutation(seed, "epoch-order", epoch, len(split)) if shuffle else np.arange(len(split))
    change = augment.for_epoch(epoch, len(split)) if augment is not None else None

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for step in range(total):
            whole = order[step * batch_size : (step + 1) * batch_size]
            indices = whole[rank * len(whole) // world : (rank + 1) * len(whole) // world]
            inputs = split.inputs[indices]
            yield inputs if change is None else change(inputs, indices), split.labels[indices], indices

    return batches()
