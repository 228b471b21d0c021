"""The report's section on the bits of each layer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from measure_graphs import allocation_record

from bitspike.measure import plots, render_report, units
from bitspike.measure.allocation import allocation_figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures as they are before they become text."""
    figures: list[Any] = []

    def keep(figure: Any, label: str) -> str:
        figures.append(figure)
        return f"<svg>{label}</svg>"

    monkeypatch.setattr(plots, "_svg", keep)
    return figures


@pytest.mark.parametrize(
    ("unit", "accuracies", "ylabel", "line", "ring"),
    [
        ("bytes", (None, None, None), "predicted loss (nats)", [(4, 0.9), (6.5, 0.031), (9, 0.002)], (6.5, 0.031)),
        (
            "seconds",
            (None, None, None),
            "predicted loss (nats)",
            [(0.4, 0.9), (0.65, 0.031), (0.9, 0.002)],
            (0.65, 0.031),
        ),
        ("bytes", (0.5, 0.75, 0.875), "accuracy (%)", [(4, 50), (6.5, 75), (9, 87.5)], (6.5, 75)),
        ("bytes", (0.5, None, 0.875), "accuracy (%)", [(4, 50), (9, 87.5)], None),
        ("bytes", (None, 0.75, None), "predicted loss (nats)", [(4, 0.9), (6.5, 0.031), (9, 0.002)], (6.5, 0.031)),
    ],
)
def test_the_figure_shows_the_front_and_what_was_chosen(
    drawn: list[Any],
    unit: str,
    accuracies: tuple[float | None, ...],
    ylabel: str,
    line: list[tuple[float, float]],
    ring: tuple[float, float] | None,
) -> None:
    allocation_figure(allocation_record(unit, accuracies))
    axes = drawn[0].axes[0]
    front, *rings = ([tuple(point) for point in shown.get_xydata()] for shown in axes.lines)
    assert axes.get_ylabel() == ylabel and front == [pytest.approx(point) for point in line]
    assert rings == ([[pytest.approx(ring)]] if ring else [])
    assert ("kB" in axes.get_xlabel()) == (unit == "bytes") and ("ms" in axes.get_xlabel()) == (unit == "seconds")


@pytest.mark.parametrize("unit", ["bytes", "seconds"])
def test_the_section_says_bits_sensitivity_and_search_cost(drawn: list[Any], unit: str) -> None:
    shown, values = render_report({"allocation": allocation_record(unit)}), allocation_record(unit)
    section = re.search(r'<section id="allocation">.*?</section>', shown, re.DOTALL)
    assert section and len(drawn) == 1
    text = section.group()
    say = {"bytes": units.size, "seconds": units.seconds}[unit]
    for expected in (
        say(values["chosen"]["cost"]),
        say(values["fixed"]),
        say(3000 * (1.0 if unit == "bytes" else 1e-7)),
    ):
        assert expected in text
    for expected in ("8 bit", "3 bit", "1.00e-03", "3.10e-02", "29 forward passes", "rescaw-max", "&lt;nats&gt;"):
        assert expected in text
    assert "<svg>" in text


def test_no_allocation_no_section() -> None:
    assert 'id="allocation"' not in render_report({"title": "x"})
