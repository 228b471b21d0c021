"""Images as sequences: one column per time step, from left to right.

Source: the sequential tasks of "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies"
(NeurIPS 2023, arXiv 2304.12760). A classifier has to remember what it no longer sees.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import BitspikeError

__all__ = ["image_columns"]


def image_columns(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (N, T = W, C, H, 1) of images (N, C, H, W): frame t is column t. BitspikeError for another number of axes."""
    if images.ndim != 4:
        raise BitspikeError(f"images have shape {images.shape}, accepted: (N, C, H, W); frames are a sequence already")
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)[..., None])
