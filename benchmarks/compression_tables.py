"""Tables of the compression pages: the QP-SNN grid, LATS and SEI ablations, from their result files."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine_tables import markdown

RESULTS = Path(__file__).resolve().parent.parent / "results"

# claim -> (variant, the one it is said to beat, what the paper's own tables give for the difference, in points)
CLAIMS = {
    "ReScaW over vanilla": ("ReScaW", "vanilla", "+0.63 (2 bits)"),
    "ReScaW + SCA over vanilla + SCA": ("ReScaW + SCA", "vanilla + SCA", "+4.24 (2 bits)"),
    "SVS over SCA, vanilla weights": ("vanilla + SVS", "vanilla + SCA", "+4.16 (2 bits)"),
    "SVS over SCA, ReScaW weights": ("ReScaW + SVS", "ReScaW + SCA", "+0.49 (2 bits)"),
    "both over neither": ("ReScaW + SVS", "vanilla + SCA", "+4.73 (2 bits)"),
    "quantize first, ReScaW and SVS": ("ReScaW + SVS", "SVS, then ReScaW", "+1.39 (4 bits)"),
    "quantize first, vanilla and SCA": ("vanilla + SCA", "SCA, then vanilla", "-1.24 (4 bits)"),
    "fine-tuning, ReScaW + SVS": ("ReScaW + SVS", "ReScaW + SVS, not fine-tuned", ""),
}


def grid_table(name: str) -> str:
    """One row per variant and bits: accuracy, size by the paper's rule, artifact, time of one sample."""
    rows = _rows(name)
    keys = list(dict.fromkeys((row["bits"], row["variant"]) for row in rows))
    table = []
    for bits, variant in sorted(keys, key=lambda key: -(key[0] or 32)):
        own = [row for row in rows if (row["bits"], row["variant"]) == (bits, variant)]
        artifacts = [row["artifact_bytes"] for row in own if "artifact_bytes" in row]
        times = [1e3 * row["median_s"] for row in own if "median_s" in row]
        table.append(
            [
                bits or 32,
                variant,
                len(own),
                spread([accuracy(row) for row in own]),
                f"{statistics.mean(row['size_bytes'] for row in own) / 1e3:.1f}",
                f"{statistics.mean(artifacts) / 1e3:.1f}" if artifacts else "",
                f"{statistics.mean(times):.3f}" if times else "",
            ]
        )
    header = ["bits", "variant", "seeds", "test accuracy", "size, kB", "artifact, kB", "one sample, ms"]
    return markdown(header, table)


def claims_table(name: str) -> str:
    """Differences of mean test accuracy in points, paired by seed, for the orderings that the paper reports."""
    rows = _rows(name)
    found = {(row["variant"], row["bits"], row["seed"]): accuracy(row) for row in rows}
    widths = sorted({row["bits"] for row in rows if row["bits"]}, reverse=True)
    table = []
    for claim, (better, worse, paper) in CLAIMS.items():
        cells = []
        for bits in widths:
            seeds = [seed for variant, b, seed in found if (variant, b) == (better, bits)]
            pairs = [(better, bits, seed) for seed in seeds if (worse, bits, seed) in found]
            cells.append(points([found[pair] - found[(worse, *pair[1:])] for pair in pairs]))
        table.append([claim, *cells, paper])
    return markdown(["difference in points", *(f"{bits} bits" for bits in widths), "paper"], table)


def variants_table(name: str, columns: Sequence[str]) -> str:
    """Mean ± standard deviation over the seeds of each variant; columns that are shares are shown in percent."""
    rows = _rows(name)
    table = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        table.append([variant, len(own), *(_cell([row[c] for row in own if row.get(c) is not None]) for c in columns)])
    return markdown(["variant", "seeds", *(column.replace("_", " ") for column in columns)], table)


def accuracy(row: dict[str, Any]) -> float:
    """Of the engine on the artifact, or of torch where the network is not quantized."""
    return float(row.get("accuracy", row["accuracy_torch"]))


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation, in percent."""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{deviation} %"


def points(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation of differences, in points of a percent."""
    if not values:
        return ""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):+.2f}{deviation}"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    return spread(values) if max(values) <= 1 else f"{statistics.mean(values):,.0f}"


def _rows(name: str) -> list[dict[str, Any]]:
    """The rows of a result file, in the order in which seeds were run."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / name).read_text())["rows"]
    return rows
