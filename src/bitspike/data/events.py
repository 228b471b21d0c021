"""Event recordings: the 5-byte format of N-MNIST and N-Caltech101, and frames of event counts.

One event is 40 bits, big-endian: x (8), y (8), polarity (1), time in microseconds (23).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bitspike.data.errors import DataError

__all__ = ["SLICERS", "Events", "count_frames", "decode_events"]

_BYTES_PER_EVENT = 5
# Sensors hand over events nearly in order; one that runs back further than this is a damaged time.
_MAX_BACKWARD_US = 10_000


class Events(NamedTuple):
    """Parallel int64 arrays (E,): column, row, polarity 0 or 1, time in microseconds."""

    x: np.ndarray
    y: np.ndarray
    polarity: np.ndarray
    time: np.ndarray


def decode_events(data: bytes, source: str, width: int, height: int) -> Events:
    """The events in `data`; `source` is the file name used in errors.

    Times need not be sorted to the microsecond, but no event may lie more than 10 ms before its
    predecessor. Raises DataError for that, for an empty file, for a length that is no multiple of 5
    and for an event outside `width` x `height`.
    """
    if not data or len(data) % _BYTES_PER_EVENT:
        raise DataError(f"{source}: {len(data)} bytes; accepted: a positive multiple of {_BYTES_PER_EVENT}")
    raw = np.frombuffer(data, np.uint8).reshape(-1, _BYTES_PER_EVENT).astype(np.int64)
    x, y, third = raw[:, 0], raw[:, 1], raw[:, 2]
    events = Events(x, y, third >> 7, (third & 0x7F) << 16 | raw[:, 3] << 8 | raw[:, 4])
    outside = np.flatnonzero((x >= width) | (y >= height))
    if len(outside):
        i = outside[0]
        raise DataError(f"{source}: event {i} is at ({x[i]}, {y[i]}), outside the {width}x{height} sensor")
    step = np.diff(events.time)
    if len(step) and step.min() < -_MAX_BACKWARD_US:
        i = int(step.argmin())
        raise DataError(
            f"{source}: event {i + 1} lies {-step[i]} us before the last; accepted: 0 to {_MAX_BACKWARD_US}"
        )
    return events


def _slice_by_time(events: Events, steps: int) -> np.ndarray:
    """Slices of equal duration from the first to the last event."""
    start = events.time.min()
    return (events.time - start) * steps // (events.time.max() - start + 1)


def _slice_by_count(events: Events, steps: int) -> np.ndarray:
    """Slices of equally many events (give or take one), in stored order."""
    return np.arange(len(events.time)) * steps // len(events.time)


# name -> function giving each event its frame number, int64 (E,) from 0 to steps - 1
SLICERS: dict[str, Callable[[Events, int], np.ndarray]] = {"time": _slice_by_time, "count": _slice_by_count}


def count_frames(events: Events, frame: np.ndarray, steps: int, width: int, height: int) -> np.ndarray:
    """Events counted per frame, polarity and pixel: uint8 (steps, 2, height, width), clipped at 255.

    `frame` (E,) is each event's frame number.
    """
    cell = ((frame * 2 + events.polarity) * height + events.y) * width + events.x
    counts = np.bincount(cell, minlength=steps * 2 * height * width)
    return np.minimum(counts, 255).astype(np.uint8).reshape(steps, 2, height, width)
