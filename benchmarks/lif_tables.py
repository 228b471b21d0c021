"""Tables of the neuron kernels' result file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine_tables import markdown

RESULTS = Path(__file__).resolve().parent.parent / "results" / "neurons"
NAMES = ("bitspike", "copy", "torch.compile loop", "torch loop", "spikingjelly", "snntorch", "norse", "sinabs")


def table(columns: list[dict[str, Any]], threads: int, direction: str) -> str:
    """One row per implementation, one column per shape: milliseconds of ours, of the others times ours."""
    shown = [column for column in columns if column["threads"] == threads]
    header = ["", *(f"T {c['steps']}, 2^{c['features'].bit_length() - 1}" for c in shown)]
    rows = [
        [name, *(_cell(column[direction], name) for column in shown)]
        for name in NAMES
        if any(name in column[direction] for column in shown)
    ]
    return markdown(header, rows)


def _cell(times: dict[str, dict[str, float]], name: str) -> str:
    if name not in times:
        return ""
    seconds, ours = times[name]["median_s"], times["bitspike"]["median_s"]
    return f"{1e3 * seconds:.3g} ms" if name == "bitspike" else f"{seconds / ours:.2f}x"


def committed(threads: int, direction: str, name: str = "lif-cpu.json") -> str:
    """The table of a committed result."""
    if not (RESULTS / name).exists():
        return "Not measured."
    return table(json.loads((RESULTS / name).read_text())["columns"], threads, direction)
