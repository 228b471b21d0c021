from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_writers import (
    event_bytes,
    nmnist_members,
    random_events,
    tar_bytes,
    write_nmnist,
    write_nmnist_subset,
)

from bitspike.data import DataError, load
from bitspike.data.events import SLICERS, count_frames, decode_events


def reference_frames(data: bytes, steps: int, slice_by: str) -> np.ndarray:
    """One event at a time, from the format's description."""
    events = []
    for i in range(0, len(data), 5):
        word = int.from_bytes(data[i : i + 5], "big")
        events.append((word >> 32, (word >> 24) & 0xFF, (word >> 23) & 1, word & 0x7FFFFF))
    first, last = min(e[3] for e in events), max(e[3] for e in events)
    frames = np.zeros((steps, 2, 34, 34), np.int64)
    for i, (x, y, p, t) in enumerate(events):
        step = (t - first) * steps // (last - first + 1) if slice_by == "time" else i * steps // len(events)
        frames[step, p, y, x] += 1
    return frames.clip(max=255).astype(np.uint8)


@pytest.mark.parametrize("slice_by", SLICERS)
@pytest.mark.parametrize("steps", [1, 3, 10, 60])
def test_frames_equal_the_reference(slice_by: str, steps: int) -> None:
    data = random_events(0, 200)
    events = decode_events(data, "f", 34, 34)
    frames = count_frames(events, SLICERS[slice_by](events, steps), steps, 34, 34)
    np.testing.assert_array_equal(frames, reference_frames(data, steps, slice_by))
    assert frames.sum() == 200


def test_counts_are_clipped_and_one_instant_is_enough() -> None:
    events = decode_events(event_bytes([1] * 300, [2] * 300, [1] * 300, [7] * 300), "f", 34, 34)
    frames = count_frames(events, SLICERS["time"](events, 4), 4, 34, 34)
    assert frames[0, 1, 2, 1] == 255 and frames.sum() == 255


def test_full_time_range() -> None:
    events = decode_events(event_bytes([0, 33], [33, 0], [1, 0], [0, 2**23 - 1]), "f", 34, 34)
    assert events.time.tolist() == [0, 2**23 - 1] and events.polarity.tolist() == [1, 0]
    assert SLICERS["time"](events, 10).tolist() == [0, 9]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes; accepted: a positive multiple of 5"),
        (b"\0" * 7, "7 bytes"),
        (event_bytes([0, 34], [0, 0], [0, 0], [1, 2]), r"event 1 is at \(34, 0\), outside the 34x34 sensor"),
        (event_bytes([0], [240], [0], [1]), r"event 0 is at \(0, 240\)"),
        (event_bytes([0, 0], [0, 0], [0, 0], [20_000, 9_000]), "event 1 lies 11000 us before"),
    ],
    ids=["empty", "length", "x", "y", "time"],
)
def test_decode_refuses(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"some-file: {message}"):
        decode_events(data, "some-file", 34, 34)


def test_small_disorder_is_accepted() -> None:
    assert len(decode_events(event_bytes([0, 0], [0, 0], [0, 0], [500, 400]), "f", 34, 34).time) == 2


@pytest.mark.parametrize("packing", ["folders", "zip"])
@pytest.mark.parametrize("place", ["", "N-MNIST"])
def test_official_layouts(tmp_path: Path, packing: str, place: str) -> None:
    write_nmnist(tmp_path / place, packing)
    data = load("nmnist", tmp_path, validation_fraction=0, time_steps=4, slice_by="count")
    assert data.spec.name == "nmnist" and data.spec.sample_shape == (4, 2, 34, 34)
    for part, split in (("Train", data.train), ("Test", data.test)):
        assert split.labels.tolist() == list(range(10)) * 2
        wanted = [reference_frames(events, 4, "count") for events in nmnist_members(part).values()]
        np.testing.assert_array_equal(split.inputs, wanted)


def test_subset_layout(tmp_path: Path) -> None:
    write_nmnist_subset(tmp_path / "nmnist_subset")
    data = load("nmnist", tmp_path, validation_fraction=0)
    assert data.spec.name == "nmnist-subset" and data.spec.time_steps == 10
    np.testing.assert_array_equal(
        data.train.inputs, [reference_frames(random_events(i), 10, "time") for i in range(20)]
    )
    np.testing.assert_array_equal(data.test.inputs[9], reference_frames(random_events(29), 10, "time"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_steps": 0}, "time_steps is 0; accepted: 1 to 1000"),
        ({"time_steps": 2.5}, "time_steps must be an integer, not 2.5"),
        ({"time_steps": True}, "time_steps must be an integer, not True"),
        ({"slice_by": "events"}, "unknown slice_by 'events'; accepted: count, time"),
    ],
)
def test_options(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load("nmnist", tmp_path, **options)


def test_no_download() -> None:
    with pytest.raises(DataError, match=r"by hand from https://www\.garrickorchard\.com/.*--data-root"):
        load("nmnist")


def test_folder_errors(tmp_path: Path) -> None:
    write_nmnist(tmp_path, "folders")
    (tmp_path / "Test/3/00004.bin").write_bytes(b"\0" * 6)
    with pytest.raises(DataError, match=r"Test/3/00004\.bin: 6 bytes"):
        load("nmnist", tmp_path)
    (tmp_path / "Train/x").mkdir()
    (tmp_path / "Train/x/1.bin").write_bytes(b"\0" * 5)
    with pytest.raises(DataError, match="class 'x'; accepted: 0 to 9"):
        load("nmnist", tmp_path)


def test_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "Train").mkdir()
    (tmp_path / "Test").mkdir()
    with pytest.raises(DataError, match="Train: holds no recordings"):
        load("nmnist", tmp_path)


def test_zip_errors(tmp_path: Path) -> None:
    write_nmnist(tmp_path, "zip")
    path = tmp_path / "Test.zip"
    data = path.read_bytes()
    for keep in (0, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:keep])
        with pytest.raises(DataError, match=r"Test\.zip: cannot be read as a zip"):
            load("nmnist", tmp_path)
    damaged = bytearray(data)
    damaged[100] ^= 0xFF  # inside the first recording
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"Test\.zip.*cannot be read"):
        load("nmnist", tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Train/0/1.bin", b"")
    with pytest.raises(DataError, match=r"Test\.zip: holds no recordings"):
        load("nmnist", tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"Test\.zip: cannot be read"):
        load("nmnist", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t10\n", r"line 1: class '10'; accepted: 0 to 9"),
        ("1\n", "line 1: '1'; accepted"),
        ("#x\n1\t2\n1\t2\n", "line 3: .*new sample number"),
        ("one\t2\n", "line 1"),
        ("", "lists no samples"),
        ("999\t2\n", "does not hold 999.bs2"),
        ("1\té\n", "not a list of samples"),
    ],
    ids=["class", "field", "twice", "word", "empty", "absent", "bytes"],
)
def test_bad_list(tmp_path: Path, text: str, message: str) -> None:
    write_nmnist_subset(tmp_path)
    (tmp_path / "test99.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"{message}"):
        load("nmnist", tmp_path)


def test_subset_files_missing_or_cut(tmp_path: Path) -> None:
    write_nmnist_subset(tmp_path)
    tar = tmp_path / "nmnist_bs2.tar.xz"
    data = tar.read_bytes()
    for keep in (0, 40, len(data) // 2, len(data) - 1):
        tar.write_bytes(data[:keep])
        with pytest.raises(DataError, match=r"nmnist_bs2\.tar\.xz"):
            load("nmnist", tmp_path)
    tar.write_bytes(tar_bytes({f"{i + 1}.bs2": b"\xff" * 5 for i in range(30)}, "w:xz"))
    with pytest.raises(DataError, match=r"tar\.xz:1\.bs2: event 0 is at \(255, 255\)"):
        load("nmnist", tmp_path)
    (tmp_path / "train500.txt").unlink()
    with pytest.raises(DataError, match=r"train500\.txt: cannot be read"):
        load("nmnist", tmp_path)
