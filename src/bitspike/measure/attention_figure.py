"""Attention of one sample as a figure: a row for each layer, a column for each head, maps laid over the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plots import PALETTE, WIDTH, _figure, _style, _svg, wrapped

__all__ = ["attention_figure", "attention_notes", "overlay"]

TINT = tuple(int(PALETTE[1][i : i + 2], 16) / 255 for i in (1, 3, 5))
NOTES = {
    "tokens": "Gates: the more orange a patch, the more of the time steps it passes the gate of that head.",
    "pairs": "Self-attention: above, what each patch receives from all queries; below, from the ringed one, which attends most. "
    "Full orange is the head's largest.",
    "channels": "Channel masks: one line per channel of the head, the more orange, the more of the time steps it passes.",
}
COLUMNS = 4  # at least, so that few heads do not make large pictures
Panel = tuple[str, Mapping[str, Any], str]  # label of the row, layer, which of its maps


def attention_figure(layers: Sequence[Mapping[str, Any]], image: Sequence[Any], label: str) -> str:
    """SVG of ``layers`` as ``attention_of_sample`` gives them, over ``image``, rows of grey or RGB values, 0..255."""
    grey = np.asarray(image, np.float64) / 255
    if grey.ndim == 3:
        grey = grey.mean(-1)
    rows = _rows(layers)
    heads = max(len(layer["maps"]) for layer in layers)
    columns = max(heads, COLUMNS)
    with _style(label):
        side = (WIDTH - 0.9) / columns
        figure, _ = _figure(0.35 + sum(side * _height(grey, layer["kind"]) + 0.06 for _, layer, _ in rows), axes=False)
        ratios = [_height(grey, layer["kind"]) for _, layer, _ in rows]
        grid = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": ratios})
        for axes, (text, layer, key) in zip(grid, rows, strict=True):
            for head, cell in enumerate(axes):
                _cell(cell, layer, key, head, grey)
            axes[0].set_ylabel(text, fontsize=7, rotation=0, ha="right", va="center")
        for head, cell in enumerate(grid[0][:heads]):
            cell.set_title(f"head {head + 1}", fontsize=7.5)
        return _svg(figure, label)


def attention_notes(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the colours mean, for the kinds of attention that are there."""
    return [text for kind, text in NOTES.items() if any(layer["kind"] == kind for layer in layers)]


def overlay(image: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGB (H, W, 3), 0 to 1, of a grey ``image`` (H, W), 0 to 1, tinted by ``weights`` (h, w), 0 to 1, one for each patch."""
    height, width = image.shape
    rows = np.arange(height) * weights.shape[0] // height
    columns = np.arange(width) * weights.shape[1] // width
    share = 0.85 * weights[rows[:, None], columns, None]
    mixed: NDArray[np.float64] = (0.1 + 0.6 * image[..., None]) * (1 - share) + np.asarray(TINT) * share
    return mixed


def _rows(layers: Sequence[Mapping[str, Any]]) -> list[Panel]:
    rows: list[Panel] = []
    for layer, name in zip(layers, wrapped([layer["name"] for layer in layers], 12), strict=True):
        rows.append((name, layer, "maps"))
        if layer["kind"] == "pairs":
            rows.append(("one query", layer, "of_query"))
    return rows


def _height(image: NDArray[np.float64], kind: str) -> float:
    """Of a cell, in widths of one."""
    return 0.45 if kind == "channels" else image.shape[0] / image.shape[1]


def _cell(axes: Any, layer: Mapping[str, Any], key: str, head: int, image: NDArray[np.float64]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if head >= len(layer[key]):
        return
    values = np.asarray(layer[key][head])
    if layer["kind"] == "channels":
        strip = overlay(np.zeros((1, len(values))), values[None])
        axes.imshow(strip, interpolation="nearest", aspect="auto")
        return
    axes.imshow(overlay(image, values.reshape(layer["grid"])), interpolation="nearest")
    if key == "of_query":
        (row, column), (high, wide) = divmod(layer["query"], layer["grid"][1]), layer["grid"]
        place = ((column + 0.5) * image.shape[1] / wide - 0.5, (row + 0.5) * image.shape[0] / high - 0.5)
        axes.plot(*place, "o", markersize=5, markerfacecolor="none", markeredgecolor="white", markeredgewidth=1.4)
