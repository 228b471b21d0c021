"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their official "python version".

Files are looked for plain, as .gz or .xz each, or inside the official .tar.gz. For CIFAR-100 a reduced
pair of files, `train_subset` and `test_subset`, is taken where the full one is absent; the data set then
calls itself `cifar100-subset`, because its figures do not compare with the full set's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bitspike.data.cifar_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from bitspike.data.download import Remote, fetch_all
from bitspike.data.errors import DataError
from bitspike.data.files import find_packed, locate, read_packed, read_tar, require_packed
from bitspike.data.registry import Loaded, register_dataset
from bitspike.data.safe_pickle import load_pickle
from bitspike.data.spec import DataSpec, Split, affine_u8

__all__ = ["cifar10", "cifar100"]

_SHAPE = (3, 32, 32)
_BYTES = 3 * 32 * 32
_AUGMENT = ("crop4", "flip", "autoaugment-cifar10", "cutout16")


class _Files(NamedTuple):
    """The batch files of one data set and the key their labels are under."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: str
    archive: str | None = None  # a tar that may hold all of them instead

    @property
    def stems(self) -> tuple[str, ...]:
        return self.train + self.test

    def in_folder(self, folder: Path) -> bool:
        return any(find_packed(folder, stem) for stem in self.stems) or self.in_archive(folder)

    def in_archive(self, folder: Path) -> bool:
        return self.archive is not None and (folder / self.archive).is_file()


_CIFAR10 = _Files(tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",), "labels", "cifar-10-python.tar.gz")
_CIFAR100 = _Files(("train",), ("test",), "fine_labels", "cifar-100-python.tar.gz")
_CIFAR100_SUBSET = _Files(("train_subset",), ("test_subset",), "fine_labels")
_URL = "https://www.cs.toronto.edu/~kriz/"
_REMOTE10 = Remote(f"{_URL}cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
_REMOTE100 = Remote(f"{_URL}cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85")


def _batches(folder: Path, files: _Files) -> Iterator[tuple[str, str, bytes]]:
    """(stem, file name for errors, pickle bytes) of every batch, in any order."""
    if any(find_packed(folder, stem) for stem in files.stems) or not files.archive:
        for stem in files.stems:
            path = require_packed(folder, stem)
            yield stem, str(path), read_packed(path)
        return
    archive = folder / files.archive
    missing = set(files.stems)
    for member, data in read_tar(archive):
        if member in missing:
            missing.remove(member)
            yield member, f"{archive}:{member}", data
    if missing:
        raise DataError(f"{archive}: does not hold {', '.join(sorted(missing))}")


def _parse_batch(data: bytes, source: str, label_key: str, classes: int) -> Split:
    content = load_pickle(data, source)
    for key in ("data", label_key):
        if key not in content:
            raise DataError(f"{source}: has no {key!r}; it holds {', '.join(sorted(content)) or 'nothing'}")
    pixels, labels = content["data"], content[label_key]
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _BYTES:
        found = pixels.shape if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"{source}: 'data' is {found}; accepted: uint8 (N, {_BYTES})")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{source}: {label_key!r} is not a list of integers")
    if len(labels) != len(pixels):
        raise DataError(f"{source}: {len(labels)} labels for {len(pixels)} images")
    bad = [label for label in labels if not 0 <= label < classes]
    if bad:
        raise DataError(f"{source}: label {bad[0]}; accepted: 0 to {classes - 1}")
    return Split(pixels.reshape(-1, *_SHAPE), np.array(labels, np.int64))


def _load(spec: DataSpec, folder: Path, files: _Files) -> Loaded:
    parsed = {
        stem: _parse_batch(data, source, files.label_key, spec.num_classes)
        for stem, source, data in _batches(folder, files)
    }

    def join(stems: tuple[str, ...]) -> Split:
        parts = [parsed[stem] for stem in stems]
        return Split(np.concatenate([p.inputs for p in parts]), np.concatenate([p.labels for p in parts]))

    return Loaded(spec, join(files.train), join(files.test))


@register_dataset("cifar10")
def cifar10(root: Path | None) -> Loaded:
    """32x32 colour photographs, 50,000 + 10,000 images, 10 classes."""
    zero_point, scale = affine_u8([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])
    spec = DataSpec("cifar10", _SHAPE, CIFAR10_CLASSES, zero_point, scale, augment=_AUGMENT)
    folder = locate(
        spec.name,
        root,
        ("cifar10", "cifar-10", "cifar-10-batches-py"),
        holds=_CIFAR10.in_folder,
        wanted=f"batch files ({', '.join(_CIFAR10.stems)}; plain, .gz or .xz) or {_CIFAR10.archive}",
        fetch=lambda: fetch_all("cifar10", {"cifar-10-python.tar.gz": _REMOTE10}),
    )
    return _load(spec, folder, _CIFAR10)


@register_dataset("cifar100")
def cifar100(root: Path | None) -> Loaded:
    """32x32 colour photographs, 50,000 + 10,000 images, 100 (fine) classes."""
    zero_point, scale = affine_u8([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761])
    folder = locate(
        "cifar100",
        root,
        ("cifar100", "cifar-100", "cifar-100-python", "cifar100_subset"),
        holds=lambda path: _CIFAR100.in_folder(path) or _CIFAR100_SUBSET.in_folder(path),
        wanted=f"train and test, or train_subset and test_subset (plain, .gz, .xz), or {_CIFAR100.archive}",
        fetch=lambda: fetch_all("cifar100", {"cifar-100-python.tar.gz": _REMOTE100}),
    )
    full = _CIFAR100.in_folder(folder)
    name = "cifar100" if full else "cifar100-subset"
    spec = DataSpec(name, _SHAPE, CIFAR100_CLASSES, zero_point, scale, augment=_AUGMENT)
    return _load(spec, folder, _CIFAR100 if full else _CIFAR100_SUBSET)
