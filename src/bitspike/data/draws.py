"""Random numbers that depend on names, not on history.

Every draw is addressed by (seed, purpose, epoch) and comes straight from the counter-based Philox
generator, so no draw shifts another, no global state is read, and the values stay the same in every
numpy version (numpy promises stable raw bits, but not stable `shuffle` or `integers`).
"""

from __future__ import annotations

import zlib

import numpy as np

from bitspike.data.errors import require_int

__all__ = ["below", "permutation", "uniform", "words"]

_WORD = 2**64 - 1


def words(seed: int, purpose: str, epoch: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random uint64 of `shape`. Raises DataError if seed or epoch is not an integer from 0 to 2**64 - 1."""
    key = [require_int("seed", seed, 0, _WORD), zlib.crc32(purpose.encode())]
    # The generator counts in the first counter word, so epochs in the second one can never overlap.
    counter = [0, require_int("epoch", epoch, 0, _WORD), 0, 0]
    generator = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64))
    return generator.random_raw(int(np.prod(shape))).reshape(shape)


def below(raw: np.ndarray, limit: int) -> np.ndarray:
    """Map raw words to int64 from 0 to limit - 1 (limit < 2**31; bias below 2**-32)."""
    return (((raw >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)


def uniform(raw: np.ndarray) -> np.ndarray:
    """Map raw words to float64 in [0, 1)."""
    return (raw >> np.uint64(11)) * 2.0**-53


def permutation(seed: int, purpose: str, epoch: int, n: int) -> np.ndarray:
    """A random order of range(n), int64 (n,)."""
    return np.argsort(words(seed, purpose, epoch, (n,)), kind="stable")
