"""Parts of small graphs, for the tests of their rules."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bitspike.deploy import ir


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


def lif(sources: tuple[int, ...], channels: int, **changes: Any) -> ir.Lif:
    node = ir.Lif(
        sources,
        np.ones((len(sources), channels), np.int32),
        np.zeros(channels, np.int32),
        np.full(channels, 2, np.int32),
        np.zeros(channels, np.uint8),
        membrane_bits=4,
        leak_shift=1,
    )
    return dataclasses.replace(node, **changes)
