"""Tiny data sets in the official formats, written by independent code."""

from __future__ import annotations

import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np

PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
MNIST_STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array: np.ndarray, code: int = 8) -> bytes:
    head = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, n_train: int = 40, n_test: int = 10, suffix: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for stem, n in zip(MNIST_STEMS, (n_train, n_train, n_test, n_test), strict=True):
        if "images" in stem:
            arrays[stem] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        else:
            arrays[stem] = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{stem}{suffix}").write_bytes(PACK[suffix](idx_bytes(arrays[stem])))
    return arrays


def cifar_batch(n: int, classes: int, label_key: str, seed: int = 0, protocol: int = 2) -> bytes:
    rng = np.random.default_rng(seed)
    content = {
        b"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        label_key.encode(): [int(i) % classes for i in range(n)],
        b"filenames": [b"x.png"] * n,
    }
    return pickle.dumps(content, protocol=protocol)


def tar_bytes(members: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def event_bytes(x: list[int], y: list[int], polarity: list[int], time: list[int]) -> bytes:
    return b"".join(
        bytes([a, b]) + ((p << 23) | t).to_bytes(3, "big") for a, b, p, t in zip(x, y, polarity, time, strict=True)
    )


def random_events(seed: int, n: int = 50) -> bytes:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 34, n).tolist(), rng.integers(0, 34, n).tolist()
    return event_bytes(x, y, rng.integers(0, 2, n).tolist(), np.sort(rng.integers(0, 300_000, n)).tolist())


def nmnist_members(part: str, per_class: int = 2) -> dict[str, bytes]:
    """Official names; numbers run across the classes as in the real set."""
    return {
        f"{part}/{i % 10}/{i + 1:05d}.bin": random_events(i + (1000 if part == "Test" else 0))
        for i in range(10 * per_class)
    }


def write_nmnist(folder: Path, packing: str) -> None:
    for part in ("Train", "Test"):
        members = nmnist_members(part)
        if packing == "folders":
            for name, data in members.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(folder / f"{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"{part}/", b"")
                for name, data in members.items():
                    archive.writestr(name, data)


def write_nmnist_subset(folder: Path, n_train: int = 20, n_test: int = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    members = {f"{i + 1}.bs2": random_events(i) for i in range(n_train + n_test)}
    (folder / "nmnist_bs2.tar.xz").write_bytes(tar_bytes(members, "w:xz"))
    for name, numbers in (("train500.txt", range(n_train)), ("test99.txt", range(n_train, n_train + n_test))):
        lines = [f"{i + 1}\t{i % 10}\n" for i in numbers]
        (folder / name).write_text("#sample #class\n" + "".join(lines))
