"""Tables of the training benchmark's result file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine_tables import markdown

RESULT = Path(__file__).resolve().parent.parent / "results" / "neurons" / "training.json"


def table(result: dict[str, Any], group: str) -> str:
    """One row per case: time and peak memory of a training step, and both over those of plain torch."""
    base = next((row["peak_bytes"] for row in result[group] if row["name"] == "plain torch"), None)
    rows = []
    for row in result[group]:
        peak = row["peak_bytes"]
        memory = ["", ""] if peak is None else [f"{peak / 2**20:.0f}", f"{peak / base:.2f}x" if base else ""]
        shape = f"{row['batch']} x {row['steps']}"
        rows.append([row["name"], shape, f"{row['median_s']:.3f}", f"{row['ratio']:.2f}x", *memory])
    header = ["", "batch x T", "step, s", "time", "peak, MiB", "memory"]
    return markdown(header, rows)


def committed(group: str) -> str:
    """The table of the committed result."""
    return table(json.loads(RESULT.read_text()), group) if RESULT.exists() else "Not measured."
