"""The one exception every bad data file, name or option ends in."""

from __future__ import annotations

from collections.abc import Iterable

from bitspike.errors import BitspikeError

__all__ = ["DataError"]


class DataError(BitspikeError):
    """A data set, file or option is not what it must be; the message names the value and what is accepted."""


def unknown(kind: str, given: object, accepted: Iterable[str]) -> DataError:
    """The error for a name outside a closed set, worded the same everywhere."""
    return DataError(f"unknown {kind} {given!r}; accepted: {', '.join(sorted(accepted)) or 'none'}")


def require_int(what: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` if it is an integer (not a bool) in [low, high], else raise DataError."""
    # numpy integers are welcome: they come out of arrays and configs alike.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DataError(f"{what} must be an integer, not {value!r}")
    number = value.__index__()
    if number < low or (high is not None and number > high):
        limits = f"at least {low}" if high is None else f"{low} to {high}"
        raise DataError(f"{what} is {number}; accepted: {limits}")
    return number
