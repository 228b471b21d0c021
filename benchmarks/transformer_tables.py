"""The table of the spiking transformer's result file."""

from __future__ import annotations

import json
from pathlib import Path

from engine_tables import markdown

RESULT = Path(__file__).resolve().parent.parent / "results" / "engine" / "transformer.json"


def committed() -> str:
    """One row per runtime and firing rate: median milliseconds, times ours."""
    if not RESULT.exists():
        return "Not measured."
    rows = []
    for network in json.loads(RESULT.read_text())["networks"]:
        ours = network["times"][f"bitspike {network['bits']}-bit"]["median_s"]
        for name, time in network["times"].items():
            seconds = time["median_s"]
            rows.append([name, f"{100 * network['rate']:.0f} %", f"{1e3 * seconds:.2f}", f"{seconds / ours:.1f}x"])
    return markdown(["runtime", "firing rate", "one sample, ms", "times ours"], rows)
