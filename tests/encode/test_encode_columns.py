"""Images as sequences of their columns."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import images

from bitspike.encode import image_columns
from bitspike.errors import BitspikeError


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (2, 4, 1)], ids=str)
def test_frame_t_is_column_t(shape: tuple[int, int, int]) -> None:
    pictures = images(3, shape).numpy()
    frames = image_columns(pictures)
    channels, height, width = shape
    assert frames.shape == (3, width, channels, height, 1) and frames.dtype == np.uint8
    assert all(np.array_equal(frames[:, t, ..., 0], pictures[..., t]) for t in range(width))


def test_frames_are_refused() -> None:
    with pytest.raises(BitspikeError, match=r"images have shape \(2, 4, 1, 8, 8\), accepted: \(N, C, H, W\)"):
        image_columns(np.zeros((2, 4, 1, 8, 8), np.uint8))
