"""Finding a data set's files on disk and reading their bytes, packed or not."""

from __future__ import annotations

import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bitspike.data.errors import DataError

__all__ = ["ENVIRONMENT_ROOT", "find_packed", "locate", "read_packed", "read_tar", "require_packed"]

ENVIRONMENT_ROOT = "BITSPIKE_DATA"
_OPENERS: dict[str, Callable[[Path], bytes]] = {
    "": Path.read_bytes,
    ".gz": lambda path: gzip.decompress(path.read_bytes()),
    ".xz": lambda path: lzma.decompress(path.read_bytes()),
}
_STREAMS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
_CHUNK = 1 << 20
# Everything the standard library raises on a damaged archive or an unreadable file.
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


def find_packed(folder: Path, stem: str) -> Path | None:
    """The file `stem`, `stem.gz` or `stem.xz` in `folder`, whichever is there first, else None."""
    return next((p for p in (folder / f"{stem}{suffix}" for suffix in _OPENERS) if p.is_file()), None)


def require_packed(folder: Path, stem: str) -> Path:
    """Like `find_packed`, but raises DataError when no such file exists."""
    path = find_packed(folder, stem)
    if path is None:
        raise DataError(f"missing file {folder / stem} (plain, .gz or .xz)")
    return path


def read_packed(path: Path) -> bytes:
    """All bytes of a plain, .gz or .xz file, unpacked. Raises DataError if it is unreadable or damaged."""
    try:
        return _OPENERS.get(path.suffix, Path.read_bytes)(path)
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """(base name, bytes) of every regular file in a plain, .gz or .xz tar.

    Nothing is written to disk, so names in the archive cannot reach outside it. Raises DataError if
    the archive is damaged or cut short, at the latest after the last file.
    """
    try:
        with (
            _STREAMS.get(path.suffix, Path.open)(path, mode="rb") as stream,
            tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK) as archive,
        ):
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is not None:
                    yield member.name.rpartition("/")[2], content.read()
            # A tar ends before its packing does; only the packing's end holds the checksum.
            while stream.read(_CHUNK):
                pass
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as a tar archive: {error}") from error


def locate(
    name: str,
    root: Path | None,
    folders: Sequence[str],
    holds: Callable[[Path], bool],
    wanted: str,
    fetch: Callable[[], Path],
) -> Path:
    """The folder of a data set: `root` itself or one of `folders` under it, the first that `holds` accepts.

    Without a root, the environment's root is searched the same way, then `fetch` is asked to download.
    `wanted` words what was looked for. Raises DataError if a given root has no such folder.
    """

    def search(base: Path) -> Path | None:
        return next((folder for folder in (base, *(base / f for f in folders)) if holds(folder)), None)

    if root is not None:
        found = search(root)
        if found is None:
            raise DataError(f"{name}: no {wanted} in {root}, nor in its folders {', '.join(folders)}")
        return found
    from_environment = os.environ.get(ENVIRONMENT_ROOT)
    return (search(Path(from_environment)) if from_environment else None) or fetch()
