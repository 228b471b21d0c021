"""N-MNIST (Orchard et al., 2015): MNIST digits seen by a moving event camera, 34x34, two polarities.

Three layouts are read: the official folders (`Train/0/00002.bin`), the official `Train.zip` and `Test.zip`
as downloaded, and a reduced set of one tar (`nmnist_bs2.tar.xz`) with two lists of "sample class"
lines; the last one calls itself `nmnist-subset`.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bitspike.data.errors import DataError, require_int, unknown
from bitspike.data.events import SLICERS, count_frames, decode_events
from bitspike.data.files import locate, read_packed, read_tar
from bitspike.data.registry import Loaded, register_dataset
from bitspike.data.spec import DataSpec, Split

__all__ = ["nmnist"]

_SIDE = 34
_CLASSES = 10
_PARTS = ("Train", "Test")
_TAR = "nmnist_bs2.tar.xz"
_LISTS = ("train500.txt", "test99.txt")
_MEMBER = re.compile(r"(?:^|/)(Train|Test)/([^/]+)/([^/]+)\.bin$")
_MAX_STEPS = 1000


class _Recordings(NamedTuple):
    """One part: the labels (N,), and the recordings in the same order as (file name for errors, bytes)."""

    labels: np.ndarray
    files: Iterator[tuple[str, bytes]]


def _label(text: str, source: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < _CLASSES):
        raise DataError(f"{source}: class {text!r}; accepted: 0 to {_CLASSES - 1}")
    return int(text)


def _from_folders(folder: Path, part: str) -> _Recordings:
    # By recording number, not by class, so that the first n of the set are a fair sample of it.
    paths = sorted((folder / part).glob("*/*.bin"), key=lambda path: (path.stem, path.parent.name))
    if not paths:
        raise DataError(f"{folder / part}: holds no recordings (0/*.bin to 9/*.bin)")
    labels = [_label(path.parent.name, str(path)) for path in paths]
    return _Recordings(np.array(labels, np.int64), ((str(path), read_packed(path)) for path in paths))


def _from_zip(folder: Path, part: str) -> _Recordings:
    path = folder / f"{part}.zip"
    unreadable = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)
    try:
        archive = zipfile.ZipFile(path)
    except unreadable as error:
        raise DataError(f"{path}: cannot be read as a zip archive: {error}") from error
    members = []
    for member in archive.namelist():
        match = _MEMBER.search(member)
        if match and match[1] == part and not member.startswith("__MACOSX/"):
            members.append((match[3], _label(match[2], f"{path}:{member}"), member))
    if not members:
        raise DataError(f"{path}: holds no recordings ({part}/0/*.bin to {part}/9/*.bin)")
    members.sort()

    def files() -> Iterator[tuple[str, bytes]]:
        with archive:
            for _, _, member in members:
                try:
                    yield f"{path}:{member}", archive.read(member)
                except unreadable as error:
                    raise DataError(f"{path}:{member}: cannot be read: {error}") from error

    return _Recordings(np.array([label for _, label, _ in members], np.int64), files())


def _read_list(path: Path) -> list[tuple[str, int]]:
    """(tar member, label) per line of a "sample class" list; lines that begin with # are comments."""
    try:
        lines = read_packed(path).decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a list of samples: {error.reason} at byte {error.start}") from error
    entries: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        if len(fields) != 2 or not fields[0].isdigit() or f"{fields[0]}.bs2" in entries:
            raise DataError(f"{path}, line {number}: {line!r}; accepted: a new sample number and its class")
        entries[f"{fields[0]}.bs2"] = _label(fields[1], f"{path}, line {number}")
    if not entries:
        raise DataError(f"{path}: lists no samples")
    return list(entries.items())


def _from_subset(folder: Path) -> list[_Recordings]:
    tar = folder / _TAR
    contents = dict(read_tar(tar))
    parts = []
    for name in _LISTS:
        entries = _read_list(folder / name)
        for member, _ in entries:
            if member not in contents:
                raise DataError(f"{tar}: does not hold {member}, which {folder / name} lists")
        labels = np.array([label for _, label in entries], np.int64)
        files = [(f"{tar}:{member}", contents[member]) for member, _ in entries]
        parts.append(_Recordings(labels, iter(files)))
    return parts


def _frames(recordings: _Recordings, time_steps: int, slice_by: str) -> Split:
    slicer = SLICERS[slice_by]
    # Filled in place: the whole set is 1.6 GB at ten frames, too much to hold twice.
    frames = np.empty((len(recordings.labels), time_steps, 2, _SIDE, _SIDE), np.uint8)
    for out, (source, data) in zip(frames, recordings.files, strict=True):
        events = decode_events(data, source, _SIDE, _SIDE)
        out[...] = count_frames(events, slicer(events, time_steps), time_steps, _SIDE, _SIDE)
    return Split(frames, recordings.labels)


def _layout(folder: Path) -> str | None:
    if all((folder / part).is_dir() for part in _PARTS):
        return "folders"
    if any((folder / f"{part}.zip").is_file() for part in _PARTS):
        return "zip"
    return "subset" if any((folder / file).is_file() for file in (_TAR, *_LISTS)) else None


def _refuse_download() -> Path:
    raise DataError(
        "nmnist has no stable direct link to download from: get Train.zip and Test.zip by hand from "
        "https://www.garrickorchard.com/datasets/n-mnist and pass their folder (--data-root)"
    )


@register_dataset("nmnist")
def nmnist(root: Path | None, *, time_steps: int = 10, slice_by: str = "time") -> Loaded:
    """34x34 event-camera digits, 60,000 + 10,000 recordings, 10 classes, as frames of event counts.

    `time_steps` is the number of frames; `slice_by` divides a recording into frames of equal duration
    ("time") or of equally many events ("count"). Channel 0 counts polarity 0, channel 1 polarity 1.
    """
    steps = require_int("time_steps", time_steps, 1, _MAX_STEPS)
    if slice_by not in SLICERS:
        raise unknown("slice_by", slice_by, SLICERS)
    folder = locate(
        "nmnist",
        root,
        ("nmnist", "n-mnist", "N-MNIST", "NMNIST", "nmnist_subset"),
        holds=lambda path: _layout(path) is not None,
        wanted=f"folders Train and Test, files Train.zip and Test.zip, or {_TAR} with {' and '.join(_LISTS)}",
        fetch=_refuse_download,
    )
    layout = _layout(folder)
    if layout == "subset":
        train, test = _from_subset(folder)
    else:
        read = _from_folders if layout == "folders" else _from_zip
        train, test = read(folder, "Train"), read(folder, "Test")
    name = "nmnist-subset" if layout == "subset" else "nmnist"
    augment = ("event-roll5",)
    spec = DataSpec(name, (2, _SIDE, _SIDE), tuple("0123456789"), (0, 0), 1.0, steps, augment)
    return Loaded(spec, _frames(train, steps, slice_by), _frames(test, steps, slice_by))
