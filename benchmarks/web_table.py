"""Markdown table of what ``web.py`` measured, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine_tables import markdown

from bitspike.measure import units

__all__ = ["table"]


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """One row per network."""
    header = [
        "network",
        "artifact",
        "WebAssembly",
        "page",
        "test images",
        "differing bits",
        "in Chromium",
        "native engine",
    ]
    return markdown(header, [_row(result) for result in results])


def _row(result: Mapping[str, Any]) -> list[str]:
    differing = result["differing_spikes"] + result["differing_logits"]
    cells = [
        result["network"],
        units.size(result["artifact_bytes"]),
        units.size(result["wasm_bytes"]),
        units.size(result["page_bytes"]),
        units.whole(result["samples"]),
        f"{units.whole(differing)} of {units.whole(result['spikes'] + result['logits'])}",
        units.seconds(result["median_s"]),
        f"{units.seconds(result['engine_median_s'])}, {result['engine_level']}",
    ]
    return [cell.replace(units.SPACE, " ") for cell in cells]
