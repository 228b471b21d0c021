"""Handwritten digits, 8x8, 17 grey levels: real data that ships with scikit-learn, so it works offline.

Source: UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998), the 1,797 images
of its test file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitspike.data.partition import stratified_holdout
from bitspike.data.registry import Loaded, register_dataset
from bitspike.data.spec import DataSpec, Split, affine_u8

__all__ = ["digits"]

# Mean and deviation of value * 15 / 255 over the 1,437 images that are not test images.
_MEAN, _STD = 0.2877, 0.3542
_TEST_IMAGES = 360
_TEST_SEED = 1797  # fixed: the test split must be the same for every run


@register_dataset("digits")
def digits(root: Path | None) -> Loaded:
    """8x8 grey digits, 1,437 for training and 360 for testing; embedded, so `root` is not looked at.

    Values 0 to 16 are stored as bytes 0, 15, …, 240.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = (raw.images * 15).astype(np.uint8)[:, None]
    labels = raw.target.astype(np.int64)
    train, test = stratified_holdout(labels, _TEST_IMAGES / len(labels), _TEST_SEED)
    zero_point, scale = affine_u8([_MEAN], [_STD])
    spec = DataSpec("digits", (1, 8, 8), tuple("0123456789"), zero_point, scale, augment=("crop1",))
    whole = Split(images, labels)
    return Loaded(spec, whole.take(train), whole.take(test))
