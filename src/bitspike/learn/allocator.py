"""Freed memory that stays with the process."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # as malloc.h numbers them
LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Make the C allocator keep the blocks that tensors free, up to 1 GiB each, for the tensors of the next step.

    The one of GNU gives large blocks back to the system, and each training step pays for getting them again, page by page.
    Holds until the process ends, for all that it allocates. Returns False, and changes nothing, where the C library is
    another one; nothing can be told of an allocator that was loaded in front of it.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - others have a mallopt that does something else, or nothing
        mallopt = library.mallopt
    except (OSError, TypeError, AttributeError):
        return False
    # Where thresholds above 32 MiB are refused, blocks can still be kept from ever being mapped one by one.
    kept = mallopt(MMAP_THRESHOLD, LARGE) or mallopt(MMAP_MAX, 0)
    return bool(kept and mallopt(TRIM_THRESHOLD, -1))
