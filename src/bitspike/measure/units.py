"""Numbers as people read them, each with its unit."""

from __future__ import annotations

import math

__all__ = ["count", "joules", "percent", "seconds", "size", "times", "whole"]

SPACE = "\u00a0"  # keeps a number and its unit on one line


def size(value: float) -> str:
    """Bytes, in powers of 1000: "842 B", "12.4 kB", "1.62 MB"."""
    return f"{value:.0f}{SPACE}B" if value < 1000 else _scaled(value, "B", ((1e9, "G"), (1e6, "M"), (1e3, "k")))


def seconds(value: float) -> str:
    """A duration: "11.2 µs", "1.23 ms", "2.10 s"."""
    return _scaled(value, "s", ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")))


def joules(value: float) -> str:
    """An energy: "46.4 nJ"."""
    return _scaled(value, "J", ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p")))


def count(value: float) -> str:
    """A number of things: "912", "20.3 k", "4.10 M"."""
    return f"{value:.0f}" if value < 1000 else _scaled(value, "", ((1e9, "G"), (1e6, "M"), (1e3, "k")))


def percent(value: float, digits: int = 2) -> str:
    """A share in 0..1: "97.22 %"."""
    return f"{100 * value:.{digits}f}{SPACE}%"


def times(value: float) -> str:
    """A ratio: "5.3×", "36×"."""
    return f"{value:.0f}×" if value >= 100 else f"{_three(value)}×"


def whole(value: float) -> str:
    """An integer with thousands separated: "1,234,567"."""
    return f"{value:,.0f}"


def _scaled(value: float, unit: str, steps: tuple[tuple[float, str], ...]) -> str:
    if value == 0:
        return f"0{SPACE}{unit}".rstrip()
    for factor, prefix in steps:
        if abs(value) >= 0.9995 * factor or factor == steps[-1][0]:
            return f"{_three(value / factor)}{SPACE}{prefix}{unit}".rstrip()
    raise AssertionError("the last step always applies")


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(float(f'{value:.3g}')))))}f}"
