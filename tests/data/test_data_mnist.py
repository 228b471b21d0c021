from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
from data_writers import MNIST_STEMS, PACK, idx_bytes, write_mnist
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.data import DataError, load
from bitspike.data.idx import parse_idx

TRAIN_IMAGES, TRAIN_LABELS = MNIST_STEMS[:2]


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")], ids=str
)
def test_idx_round_trip(code: int, dtype: str) -> None:
    array = np.random.default_rng(0).normal(0, 50, (3, 1, 5)).astype(dtype)
    result = parse_idx(idx_bytes(array, code), "f")
    assert result.dtype == np.dtype(dtype) and result.flags.writeable
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\x1f\x8b\x08\x00rest", "starts with 1f 8b 08 00, not 00 00"),
        (b"\0\0\x07\x01\0\0\0\1x", "type code 0x07; accepted: 0x08"),
        (b"\0\0\x08\x00", "0 axes"),
        (b"\0\0\x08\xff" + bytes(2000), "255 axes"),
        (b"\0\0\x08\x03\0\0\0\1", "cut short: 8 bytes, but its header alone takes 16"),
        (b"\0\0\x08\x02\0\0\0\0\0\0\0\1", r"shape \(0, 1\)"),
        (b"\0\0\x08\x01\0\0\0\3ab", r"10 bytes, but shape \(3,\) of uint8 takes 11"),
        (b"\0\0\x08\x01\0\0\0\1ab", "10 bytes, but shape"),
        (b"\0\0\x0e\x08" + b"\xff" * 32, "bytes, but shape"),
    ],
)
def test_idx_refuses(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"some-file: .*{message}"):
        parse_idx(data, "some-file")


def _outcome(data: bytes) -> None:
    try:
        result = parse_idx(data, "f")
    except DataError:
        return
    # What is accepted must be all of the file.
    assert 4 + 4 * result.ndim + result.nbytes == len(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_idx_any_bytes(data: bytes) -> None:
    _outcome(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=64))
def test_idx_any_bytes_after_magic(code: int, axes: int, rest: bytes) -> None:
    _outcome(bytes([0, 0, code, axes]) + rest)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([8, 9, 11, 12, 13, 14]), st.lists(st.integers(0, 5), min_size=1, max_size=4), st.data())
def test_idx_near_valid(code: int, shape: list[int], data: st.DataObject) -> None:
    head = bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    _outcome(head + data.draw(st.binary(max_size=64)))


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("place", ["", "mnist"])
def test_mnist_packings_and_places(tmp_path: Path, suffix: str, place: str) -> None:
    arrays = write_mnist(tmp_path / place, suffix=suffix)
    data = load("mnist", tmp_path, validation_fraction=0.25)
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 10)
    np.testing.assert_array_equal(data.test.inputs[:, 0], arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(np.bincount(data.validation.labels), np.ones(10))
    assert data.spec.zero_point == (33,) and data.spec.scale == pytest.approx(1 / (255 * 0.3081))


def test_fashion_folder_with_underscore(tmp_path: Path) -> None:
    write_mnist(tmp_path / "fashion_mnist", suffix=".gz")
    assert load("fashion-mnist", str(tmp_path)).spec.classes[9] == "Ankle boot"


def test_environment_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("BITSPIKE_DATA", str(tmp_path))
    assert len(load("mnist").test) == 10


@pytest.mark.parametrize("stem", MNIST_STEMS)
def test_missing_file(tmp_path: Path, stem: str) -> None:
    write_mnist(tmp_path)
    (tmp_path / stem).unlink()
    with pytest.raises(DataError, match=f"missing file .*{stem}"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("stem", MNIST_STEMS)
@pytest.mark.parametrize("keep", [0, 3, 7, 12, 0.5, -1])
def test_truncated_file(tmp_path: Path, suffix: str, stem: str, keep: float) -> None:
    write_mnist(tmp_path, suffix=suffix)
    path = tmp_path / f"{stem}{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=path.name):
        load("mnist", tmp_path)


@pytest.mark.parametrize("stem", [TRAIN_IMAGES, TRAIN_LABELS])
def test_every_flipped_header_bit_is_noticed(tmp_path: Path, stem: str) -> None:
    write_mnist(tmp_path)
    path = tmp_path / stem
    data = path.read_bytes()
    for position in range(16 if "images" in stem else 8):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=stem):
                load("mnist", tmp_path)


@pytest.mark.parametrize(("suffix", "position"), [(".gz", 0), (".gz", -6), (".xz", 1), (".xz", 60), (".xz", -1)])
def test_damaged_packing(tmp_path: Path, suffix: str, position: int) -> None:
    write_mnist(tmp_path, suffix=suffix)
    path = tmp_path / f"{TRAIN_IMAGES}{suffix}"
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=f"{path.name}: cannot be read"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("stem", "array", "message"),
    [
        (TRAIN_LABELS, np.zeros(39, np.uint8), "39 labels for the 40 images"),
        (TRAIN_LABELS, np.full(40, 10, np.uint8), "label 10; accepted: 0 to 9"),
        (TRAIN_LABELS, np.zeros((40, 1), np.uint8), r"accepted: uint8 \(N,\)"),
        (TRAIN_IMAGES, np.zeros((40, 28, 27), np.uint8), r"accepted: uint8 \(N, 28, 28\)"),
        (TRAIN_IMAGES, np.zeros((40, 784), np.uint8), r"accepted: uint8 \(N, 28, 28\)"),
    ],
)
def test_consistent_idx_of_the_wrong_kind(tmp_path: Path, stem: str, array: np.ndarray, message: str) -> None:
    write_mnist(tmp_path)
    (tmp_path / stem).write_bytes(idx_bytes(array))
    with pytest.raises(DataError, match=message):
        load("mnist", tmp_path)


def test_wrong_dtype(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / TRAIN_LABELS).write_bytes(idx_bytes(np.zeros(40, np.int32), 12))
    with pytest.raises(DataError, match="holds int32"):
        load("mnist", tmp_path)


def test_doubly_packed_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / TRAIN_LABELS
    (tmp_path / f"{TRAIN_LABELS}.gz").write_bytes(gzip.compress(lzma.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(DataError, match="not an IDX file"):
        load("mnist", tmp_path)
