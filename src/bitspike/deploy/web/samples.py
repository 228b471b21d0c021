"""Samples that a page carries, and what they tell about drawing one by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PageSamples", "drawing_hints", "first_of_each_class", "stored_samples"]

MAX_SAMPLES = 20
MAX_BYTES = 1 << 16  # frame sequences would outweigh the network


@dataclass(frozen=True)
class PageSamples:
    """``inputs`` u8 (N, [T,] C, H, W), ``labels`` a class or None for each, ``origin`` what they are, for the reader."""

    inputs: NDArray[np.uint8]
    labels: tuple[int | None, ...]
    origin: str


def first_of_each_class(inputs: NDArray[np.uint8], labels: NDArray[np.int64]) -> PageSamples:
    """The first test sample of every class, so that nobody chose them; at most 20, and at most 64 kB."""
    count = max(1, min(MAX_SAMPLES, MAX_BYTES // inputs[0].nbytes))
    first = [int(i) for i in np.unique(labels, return_index=True)[1]][:count]
    return PageSamples(inputs[first], tuple(int(labels[i]) for i in first), "the first test sample of each class")


def stored_samples(inputs: NDArray[np.uint8] | None, shape: tuple[int, ...]) -> PageSamples:
    """The test vectors of an artifact, ``inputs`` u8 (N, *shape) or None where it has none."""
    kept = np.empty((0, *shape), np.uint8) if inputs is None else inputs[:MAX_SAMPLES]
    return PageSamples(kept, (None,) * len(kept), "the test samples stored in the file")


def drawing_hints(inputs: NDArray[np.uint8], shape: tuple[int, int, int]) -> dict[str, Any]:
    """How a drawing becomes a sample that looks like ``inputs`` u8 (N, C, H, W), of which there may be none.

    paper: background value per channel; step, top: values are multiples of ``step`` up to ``top``; fit: share of the
    image that the longer side of the object covers; filled: objects are areas, not lines; brush: width in pixels.
    """
    channels, height, width = shape
    brush = round(max(1.1, 0.09 * max(height, width)), 2)
    hints = {"paper": [0] * channels, "step": 1, "top": 255, "fit": 0.8, "filled": False, "brush": brush}
    if len(inputs) == 0:
        return hints
    border = np.concatenate([inputs[..., 0, :], inputs[..., -1, :], inputs[..., :, 0], inputs[..., :, -1]], -1)
    paper = np.median(np.moveaxis(border, 1, 0).reshape(channels, -1), 1).astype(int)
    step = int(np.gcd.reduce(inputs.reshape(-1)))
    if step > 1:
        hints |= {"step": step, "top": int(inputs.max())}
    hints["paper"] = [int(p) for p in paper]
    contrast = np.abs(inputs.astype(int) - paper[:, None, None]).max(1)  # (N, H, W)
    ink = contrast > contrast.max((1, 2), keepdims=True) / 4
    rows, columns = ink.any(2).sum(1) / height, ink.any(1).sum(1) / width
    hints["fit"] = round(float(np.median(np.maximum(rows, columns))), 3)
    inner = ink[:, 1:-1, 1:-1].copy()
    for dy in range(3):
        for dx in range(3):
            inner &= ink[:, dy : dy + inner.shape[1], dx : dx + inner.shape[2]]
    hints["filled"] = bool(np.median(inner.sum((1, 2)) / ink.sum((1, 2)).clip(1)) > 0.5)
    return hints
