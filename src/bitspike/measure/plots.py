"""Figures of the report as SVG text to stand in an HTML page.

Colours are CSS variables of the page (``--series-1`` ..., ``--line``) and ``currentColor``, so figures follow its light
or dark theme. Glyphs are outlines: no font has to be present.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["PALETTE", "bar_pairs", "bars", "curves", "front", "image_data_uri", "raster"]

# Okabe and Ito's colours, told apart with every common colour vision; the page brightens some on dark ground.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TEXT, LINE = "#010203", "#040506"  # placeholders, replaced by CSS
WIDTH = 4.6  # inches; shown at most this wide on a phone, so 10 pt stay readable
STYLE = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": LINE,
    "axes.labelcolor": TEXT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.frameon": False,
    "svg.fonttype": "path",
}


def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str, ylabel: str, label: str) -> str:
    """Lines ``name -> (x, y)``; a name that ends in " (training)" is drawn thin and dashed in its partner's colour."""
    with _style(label):
        figure, axes = _figure(2.9)
        colours: dict[str, str] = {}
        for name, (x, y) in series.items():
            base = name.removesuffix(" (training)")
            colour = colours.setdefault(base, PALETTE[len(colours) % len(PALETTE)])
            training = name != base
            marker = "o" if len(x) == 1 else None
            axes.plot(
                x,
                y,
                color=colour,
                linewidth=1 if training else 2,
                linestyle="--" if training else "-",
                label=name,
                marker=marker,
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
        return _svg(figure, label)


def front(
    points: Sequence[tuple[float, float]], chosen: tuple[float, float] | None, xlabel: str, ylabel: str, label: str
) -> str:
    """A line through ``points`` (x, y), a dot at each; ``chosen`` is ringed and named."""
    with _style(label):
        figure, axes = _figure(2.9)
        axes.plot(*zip(*points, strict=True), color=PALETTE[0], linewidth=1.5, marker="o", markersize=3.5)
        if chosen is not None:
            x, y = chosen
            axes.plot([x], [y], "o", markersize=10, markerfacecolor="none", markeredgewidth=2, color=PALETTE[1])
            axes.annotate("chosen", chosen, xytext=(9, 7), textcoords="offset points", fontsize=8.5)
        axes.set_xlim(left=0)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        return _svg(figure, label)


def bars(
    names: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    xlabel: str,
    label: str,
    *,
    log: bool = False,
    groups: Sequence[int] | None = None,
    ranges: Sequence[tuple[float, float]] | None = None,
) -> str:
    """Horizontal bars, the first on top; ``texts`` stand beside them, ``groups`` choose colours, ``ranges`` are the
    whiskers' ends."""
    with _style(label):
        figure, axes = _figure(0.75 + 0.34 * len(names))
        places = np.arange(len(names))
        colours = [PALETTE[g % len(PALETTE)] for g in groups or [0] * len(names)]
        axes.barh(places, values, 0.66, color=colours)
        ends = [max(value, high) for value, (_, high) in zip(values, ranges, strict=True)] if ranges else list(values)
        if ranges:
            spans = [[v - low for v, (low, _) in zip(values, ranges, strict=True)], np.subtract(ends, values)]
            axes.errorbar(values, places, xerr=spans, fmt="none", ecolor=TEXT, elinewidth=1.1, capsize=2.5)
        _name_rows(axes, names)
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            lowest, highest = min(values), max(ends)
            axes.set_xlim(lowest / 3, highest * (highest / lowest) ** 0.45 * 2)
        else:
            axes.set_xlim(0, max(max(ends), 1e-12) * 1.28)
        for place, end, text in zip(places, ends, texts, strict=True):
            axes.annotate(text, (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set_xlabel(xlabel)
        return _svg(figure, label)


def bar_pairs(
    names: Sequence[str],
    left: Sequence[float],
    right: Sequence[float],
    legend: tuple[str, str],
    xlabel: str,
    label: str,
) -> str:
    """Two horizontal bars per name on a logarithmic axis."""
    with _style(label):
        figure, axes = _figure(1.15 + 0.42 * len(names))
        places = np.arange(len(names))
        for offset, values, text, colour in (
            (-0.19, left, legend[0], PALETTE[5]),
            (0.19, right, legend[1], PALETTE[0]),
        ):
            axes.barh(places + offset, np.maximum(values, 1), 0.36, color=colour, label=text)
        _name_rows(axes, names)
        axes.set_xscale("log")
        axes.set_xlim(left=max(1, min(v for v in (*left, *right) if v > 0) / 5) if any((*left, *right)) else 1)
        axes.set_xlabel(xlabel)
        axes.legend(fontsize=8.5, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
        return _svg(figure, label)


def raster(layers: Sequence[Mapping[str, Any]], time_steps: int, label: str, columns: int = 6) -> str:
    """One panel per layer: time step to the right, shown neurons upwards, a mark per spike."""
    with _style(label):
        rows = -(-len(layers) // columns)
        columns = -(-len(layers) // rows)  # rows of nearly equal length
        tallest = max(layer["shown"] for layer in layers)
        figure, _ = _figure(rows * 2.5 + 0.35, axes=False)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        titles = wrapped([layer["name"] for layer in layers], 12)
        for axes, layer, title in zip(grid.flat, layers, titles, strict=False):
            x = [t + 1 for t, fired in enumerate(layer["spikes"]) for _ in fired]
            y = [n for fired in layer["spikes"] for n in fired]
            axes.hlines(y, np.subtract(x, 0.4), np.add(x, 0.4), color=PALETTE[0], linewidth=1.6)
            axes.set_xlim(0.4, time_steps + 0.6)
            axes.set_ylim(-1, tallest)
            axes.set_xticks(sorted({1, time_steps}))
            axes.set_title(title, fontsize=6.6)
            axes.grid(False)
        for axes in grid.flat[len(layers) :]:
            axes.set_axis_off()
        figure.supxlabel("time step", fontsize=10)
        figure.supylabel("neuron (up to 64 per layer)", fontsize=10)
        return _svg(figure, label)


def image_data_uri(rows: Sequence[Any]) -> str:
    """A PNG data URI of grey rows (H, W) or RGB rows (H, W, 3), values 0..255."""
    from matplotlib.image import imsave

    pixels = np.asarray(rows, np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, -1)
    body = io.BytesIO()
    imsave(body, pixels, format="png", metadata={"Software": ""})
    return "data:image/png;base64," + base64.b64encode(body.getvalue()).decode()


def _style(label: str) -> Any:
    from matplotlib import rc_context

    return rc_context(STYLE | {"svg.hashsalt": label})  # type: ignore[arg-type]  # the salt keeps ids of figures apart


def _figure(height: float, *, axes: bool = True) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.subplots() if axes else None


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(np.arange(len(names)), [_short(n, 24) for n in names], fontsize=8.5)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]


def wrapped(names: Sequence[str], length: int) -> list[str]:
    """Dotted ``names`` over lines of at most ``length`` characters where they are longer, numbers beside what they count.

    Leading parts that all names share are left out then, but not the count of what differs behind them.
    """
    units = [re.findall(r"[^.]+(?:\.\d+)*", name) for name in names]
    if any(len(name) > length for name in names):
        while len(units) > 1 and min(map(len, units)) > 1 and len({parts[0] for parts in units}) == 1:
            units = [parts[1:] for parts in units]
    return ["\n".join(_lines(parts, length)) for parts in units]


def _lines(parts: Sequence[str], length: int) -> list[str]:
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 1 + len(part) <= length:
            lines[-1] += f".{part}"
        else:
            lines.append(_short(part, length))
    return lines


def _svg(figure: Any, label: str) -> str:
    """The figure as an <svg> element for HTML, without namespaces, metadata and fixed colours."""
    body = io.StringIO()
    figure.savefig(body, format="svg", transparent=True, metadata={"Date": None})
    text = body.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    for number, colour in enumerate(PALETTE, 1):
        text = text.replace(colour, f"var(--series-{number})")
    text = text.replace(TEXT, "currentColor").replace(LINE, "var(--line)")
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)
