"""The real files: counts, balance and checksums of pixels that a wrong byte order or layout would change."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from bitspike.data import Augment, DataBundle, epoch_batches, load
from bitspike.data.cifar_names import CIFAR10_CLASSES, CIFAR100_CLASSES


def folder(shared_data: Path, name: str) -> Path:
    if not (shared_data / name).is_dir():
        pytest.skip(f"real data set not found: {shared_data / name}")
    return shared_data / name


def digest(x: np.ndarray) -> str:
    return hashlib.md5(np.ascontiguousarray(x).tobytes()).hexdigest()


def check(data: DataBundle, sizes: tuple[int, int, int]) -> None:
    splits = (data.train, data.validation, data.test)
    assert tuple(map(len, splits)) == sizes
    for split in splits:
        counts = np.bincount(split.labels, minlength=data.spec.num_classes)
        assert (counts == len(split) // data.spec.num_classes).all()


def test_fashion_mnist(shared_data: Path) -> None:
    root = folder(shared_data, "fashion_mnist")
    data = load("fashion-mnist", root)
    check(data, (54_000, 6_000, 10_000))
    assert data.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert digest(data.test.inputs) == FASHION_TEST
    pixels = np.concatenate([data.train.inputs, data.validation.inputs]) / np.float32(255)
    assert pixels.mean() == pytest.approx(0.2860, abs=1e-4) and pixels.std() == pytest.approx(0.3530, abs=1e-4)


@pytest.mark.slow
def test_cifar10(shared_data: Path) -> None:
    root = folder(shared_data, "cifar10")
    data = load("cifar10", root.parent)
    check(data, (45_000, 5_000, 10_000))
    # The test pixels in file order are the pickled array itself.
    assert data.test.labels[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]
    assert data.test.inputs[0, :, 0, :3].tolist() == [[158, 159, 165], [112, 111, 116], [49, 47, 51]]
    means = np.concatenate([data.train.inputs, data.validation.inputs]).mean((0, 2, 3)) / 255
    np.testing.assert_allclose(means, (0.4914, 0.4822, 0.4465), atol=1e-4)
    augment = Augment(data.spec.augment, data.spec, 0)
    inputs, _, _ = next(epoch_batches(data.train, 256, seed=0, epoch=0, augment=augment))
    assert inputs.shape == (256, 3, 32, 32) and inputs.std() > 40
    names = pickle.loads((root / "batches.meta").read_bytes(), encoding="latin1")["label_names"]
    assert tuple(names) == CIFAR10_CLASSES


def test_cifar100_subset(shared_data: Path) -> None:
    root = folder(shared_data, "cifar100_subset")
    data = load("cifar100", shared_data)
    assert data.spec.name == "cifar100-subset"
    check(data, (900, 100, 500))
    assert data.test.inputs[0, 0, 0, :3].tolist() == [251, 254, 254]
    names = pickle.loads((root / "meta").read_bytes(), encoding="latin1")["fine_label_names"]
    assert tuple(names) == CIFAR100_CLASSES


def test_nmnist_subset(shared_data: Path) -> None:
    folder(shared_data, "nmnist_subset")
    by_time = load("nmnist", shared_data)
    by_count = load("nmnist", shared_data, time_steps=5, slice_by="count")
    for data, steps in ((by_time, 10), (by_count, 5)):
        assert tuple(map(len, (data.train, data.validation, data.test))) == (450, 50, 99)
        assert data.train.inputs.shape[1:] == (steps, 2, 34, 34) == data.spec.sample_shape
        # No pixel reaches the clip, so every event of the 599 recordings is counted.
        splits = (data.train, data.validation, data.test)
        assert sum(int(s.inputs.sum()) for s in splits) == 2_420_746
        assert set(np.unique(data.train.labels)) == set(range(10))
    counts = by_count.train.inputs.sum((2, 3, 4), dtype=np.int64)
    assert (counts.max(1) - counts.min(1)).max() <= 1


FASHION_TEST = "b7656a891b218fc13e45205c48a92cae"
