"""Official downloads, each checked against its published MD5 and cached for the user."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bitspike.data.errors import DataError

__all__ = ["Remote", "fetch_all"]


class Remote(NamedTuple):
    """One file: where it is and the MD5 its publisher states."""

    url: str
    md5: str


def fetch_all(folder: str, remotes: Mapping[str, Remote]) -> Path:
    """Bring all files of one data set into the user's cache and return their folder.

    Files already there with the right checksum are not fetched again. Raises DataError naming the
    URL if it cannot be reached, or if what arrives has another checksum.
    """
    import pooch

    target = Path(pooch.os_cache("bitspike")) / folder
    # Pooch announces every file on its own logger; one line of ours is enough.
    pooch.get_logger().setLevel(logging.WARNING)
    for file, remote in remotes.items():
        if not (target / file).is_file():
            logging.getLogger(__name__).info("downloading %s to %s", remote.url, target)
        try:
            pooch.retrieve(remote.url, known_hash=f"md5:{remote.md5}", fname=file, path=target)
        except (OSError, ValueError) as error:  # no network, HTTP status, full disk; wrong checksum
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"cannot download {remote.url}: {reason}; get it by other means and pass --data-root"
            ) from error
    return target
