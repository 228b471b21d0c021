"""Budgets as people write them: "100kB", "97.7KiB", "1.5ms"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from ..errors import ConfigError

__all__ = ["Budget", "parse_budget"]

BYTES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "µs": 10**6, "μs": 10**6}  # in one; micro sign and Greek letter
UNITS = {unit: ("bytes", Fraction(factor)) for unit, factor in BYTES.items()} | {
    unit: ("seconds", Fraction(1, parts)) for unit, parts in SECONDS.items()
}
LARGEST = Fraction(2**63)
ACCEPTED = "bytes (100000), kB, MB, GB of powers of 1000, KiB, MiB, GiB of powers of 1024, s, ms, us"


@dataclass(frozen=True)
class Budget:
    """``unit`` is "bytes" (of the artifact file, a whole number) or "seconds" (of one inference)."""

    unit: str
    value: float


def parse_budget(text: str) -> Budget:
    """The budget that ``text`` says: a positive decimal number and a unit, "100kB", "97.7 KiB", "1.5ms", "800us".

    Bytes are rounded down to whole ones. Raises ConfigError for anything else, naming the accepted units.
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµμ]*)\s*", text)
    if found is None or found[2] not in UNITS:
        raise ConfigError(f"budget {text!r} is not understood, accepted: a number and a unit: {ACCEPTED}")
    unit, factor = UNITS[found[2]]
    exact = Fraction(found[1]) * factor  # a float would lose a byte of 1.005kB
    within = min(exact, LARGEST)  # what is beyond need not fit a float
    value = math.floor(within) if unit == "bytes" else float(within)
    if not 0 < value < LARGEST:
        raise ConfigError(f"budget {text!r} is out of range, accepted: above zero, below 2^63 {unit}")
    return Budget(unit, value)
