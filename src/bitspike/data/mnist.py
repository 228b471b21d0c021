"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017): two data sets, one file layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitspike.data.download import Remote, fetch_all
from bitspike.data.errors import DataError
from bitspike.data.files import find_packed, locate, require_packed
from bitspike.data.idx import read_idx
from bitspike.data.registry import Loaded, register_dataset
from bitspike.data.spec import DataSpec, Split, affine_u8

__all__ = ["fashion_mnist", "mnist"]

_SIDE = 28
_CLASSES = 10
_STEMS = {  # part -> images, labels
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_ALL_STEMS = [stem for pair in _STEMS.values() for stem in pair]  # the order of the checksums below

_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_MD5 = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def _read_part(folder: Path, images_stem: str, labels_stem: str) -> Split:
    image_path, label_path = require_packed(folder, images_stem), require_packed(folder, labels_stem)
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.dtype != np.uint8 or images.shape[1:] != (_SIDE, _SIDE):
        raise DataError(f"{image_path}: holds {images.dtype} {images.shape}; accepted: uint8 (N, {_SIDE}, {_SIDE})")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(f"{label_path}: holds {labels.dtype} {labels.shape}; accepted: uint8 (N,)")
    if len(labels) != len(images):
        raise DataError(f"{label_path}: {len(labels)} labels for the {len(images)} images of {image_path}")
    if labels.max() >= _CLASSES:
        raise DataError(f"{label_path}: label {labels.max()}; accepted: 0 to {_CLASSES - 1}")
    return Split(images[:, None], labels.astype(np.int64))


def _load(spec: DataSpec, root: Path | None, folders: tuple[str, ...], url: str, md5: tuple[str, ...]) -> Loaded:
    files = [f"{stem}.gz" for stem in _ALL_STEMS]
    remotes = {file: Remote(url + file, checksum) for file, checksum in zip(files, md5, strict=True)}
    folder = locate(
        spec.name,
        root,
        folders,
        holds=lambda path: any(find_packed(path, stem) for stem in _ALL_STEMS),
        wanted=f"IDX files ({_ALL_STEMS[0]}, …; plain, .gz or .xz)",
        fetch=lambda: fetch_all(spec.name, remotes),
    )
    return Loaded(spec, _read_part(folder, *_STEMS["train"]), _read_part(folder, *_STEMS["test"]))


@register_dataset("mnist")
def mnist(root: Path | None) -> Loaded:
    """28x28 grey handwritten digits, 60,000 + 10,000 images, 10 classes."""
    zero_point, scale = affine_u8([0.1307], [0.3081])
    spec = DataSpec("mnist", (1, _SIDE, _SIDE), tuple("0123456789"), zero_point, scale, augment=("crop2",))
    return _load(spec, root, ("mnist", "MNIST", "MNIST/raw"), _MNIST_URL, _MNIST_MD5)


@register_dataset("fashion-mnist")
def fashion_mnist(root: Path | None) -> Loaded:
    """28x28 grey pictures of clothes, 60,000 + 10,000 images, 10 classes."""
    zero_point, scale = affine_u8([0.2860], [0.3530])
    augment = ("crop2", "flip")
    spec = DataSpec("fashion-mnist", (1, _SIDE, _SIDE), _FASHION_CLASSES, zero_point, scale, augment=augment)
    folders = ("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw")
    return _load(spec, root, folders, _FASHION_URL, _FASHION_MD5)
