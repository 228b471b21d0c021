"""Stratified hold-out: the same fraction of every class, chosen by a seed."""

from __future__ import annotations

import numpy as np

from bitspike.data.draws import permutation
from bitspike.data.errors import DataError

__all__ = ["stratified_holdout"]


def stratified_holdout(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide range(N) into (kept, held out), two sorted int64 index arrays.

    `round(N * fraction)` samples are held out, shared among the classes in proportion to their sizes
    (largest remainders), and at least one sample is kept. `labels` is int64 (N,). A fraction of 0
    holds nothing out. Raises DataError unless 0 <= fraction < 1.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction < 1:
        raise DataError(f"validation_fraction is {fraction!r}; accepted: 0 <= fraction < 1")
    order = permutation(seed, "stratified-holdout", 0, len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    total = min(round(len(labels) * fraction), max(len(labels) - 1, 0))
    quota = counts * fraction
    take = np.floor(quota).astype(np.int64)
    largest = np.argsort(take - quota, kind="stable")  # most negative first: the largest remainder
    take[largest[: max(total - int(take.sum()), 0)]] += 1
    held = np.zeros(len(labels), bool)
    for label, count in zip(classes, take, strict=True):
        held[order[labels[order] == label][:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
