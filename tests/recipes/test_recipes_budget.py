from __future__ import annotations

import pytest

from bitspike.errors import ConfigError
from bitspike.recipes.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("100kB", "bytes", 100_000),
        ("100KB", "bytes", 100_000),
        ("97.7KiB", "bytes", 100_044),
        ("1.5MB", "bytes", 1_500_000),
        ("0.25 MiB", "bytes", 262_144),
        ("2GB", "bytes", 2_000_000_000),
        ("1GiB", "bytes", 1 << 30),
        ("100000", "bytes", 100_000),
        (" 512 B ", "bytes", 512),
        ("1.", "bytes", 1),
        (".5kB", "bytes", 500),
        ("1.5ms", "seconds", 1.5e-3),
        ("800us", "seconds", 8e-4),
        ("800µs", "seconds", 8e-4),
        ("800μs", "seconds", 8e-4),
        ("2s", "seconds", 2.0),
    ],
)
def test_a_budget_as_people_write_it(text: str, unit: str, value: float) -> None:
    found = parse_budget(text)
    assert found.unit == unit and found.value == pytest.approx(value, rel=1e-12)
    assert unit == "seconds" or (type(found.value) is int and found == Budget(unit, value))


@pytest.mark.parametrize("text", ["1.1MB", "1.005kB", "2.007kB", "16.1kB"])
def test_decimal_fractions_lose_no_byte(text: str) -> None:
    digits, unit = text[:-2], {"kB": 3, "MB": 6}[text[-2:]]
    whole, fraction = digits.split(".")
    assert parse_budget(text).value == int(whole + fraction.ljust(unit, "0"))


@pytest.mark.parametrize(
    "text", ["", "kB", "100kb", "100 k", "-5kB", "1e3", "1,5ms", "1.5.2kB", "10ns", "100kBs", "1 000 B", "nan", "inf"]
)
def test_anything_else_is_refused_with_the_accepted_units(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"budget .* is not understood, accepted: a number and a unit: bytes .*kB.*ms"
    ):
        parse_budget(text)


@pytest.mark.parametrize("text", ["0", "0.4", "0kB", "0.0ms", "9" * 400 + "MB", "9" * 400 + "s"])
def test_a_budget_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is out of range, accepted: above zero, below 2\^63 (bytes|seconds)"):
        parse_budget(text)
