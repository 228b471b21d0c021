"""Tables of the BESTformer page, from its result files."""

from __future__ import annotations

import json
from typing import Any

import compression_tables
from compression_tables import RESULTS
from engine_tables import markdown

ABLATION = "bestformer/fashion-mnist.json"
MEMORY = "bestformer/memory.json"
CLAIMS = (  # arm, the one it is compared with
    ("binary weights, map of counts", "full precision, map of counts"),
    ("binary", "binary weights, map of counts"),
    ("binary, two streams", "binary"),
    ("binary, taught", "binary"),
    ("binary, two streams, taught", "binary"),
    ("binary, two streams, taught", "full precision, map of counts, taught"),
    ("full precision, map of counts, taught", "full precision, map of counts"),
)
COLUMNS = ("accuracy", "labels_head", "teacher_head", "firing_rate", "size_bytes", "cpu_seconds")


def ablation_table() -> str:
    """Mean ± standard deviation over the seeds of every arm."""
    if not (RESULTS / ABLATION).exists():
        return "Not measured yet."
    return compression_tables.variants_table(ABLATION, COLUMNS)


def claims_table() -> str:
    """Differences of test accuracy in points, paired by seed, then seed by seed."""
    if not (RESULTS / ABLATION).exists():
        return "Not measured yet."
    rows = json.loads((RESULTS / ABLATION).read_text())["rows"]
    found = {(row["variant"], row["seed"]): row["accuracy"] for row in rows}
    table = []
    for arm, other in CLAIMS:
        pairs = [found[arm, s] - found[other, s] for v, s in found if v == arm and (other, s) in found]
        table.append(
            [f"{arm} over {other}", compression_tables.points(pairs), ", ".join(f"{100 * d:+.1f}" for d in pairs)]
        )
    return markdown(["difference in points", "mean ± standard deviation", "seed by seed"], table)


def memory_table() -> str:
    """One row per depth and batch: a training step with stored and with rebuilt activations."""
    cells = {(row["depth"], row["batch"], row["activations"]): row for row in _memory()["memory"]}
    rows = []
    for depth, batch, activations in cells:
        if activations == "stored":
            stored, rebuilt = cells[depth, batch, "stored"], cells[depth, batch, "rebuilt"]
            pairs = [
                f"{megabytes(stored[key])}, {megabytes(rebuilt[key])}"
                for key in ("kept_bytes", "step_bytes", "peak_bytes")
            ]
            rows.append([depth, batch, *pairs, f"{rebuilt['cpu_seconds'] / stored['cpu_seconds']:.2f}"])
    header = ["blocks", "batch", "kept by the blocks, MB", "added by the step, MB", "peak of the process, MB", "time"]
    return markdown(header, rows)


def rounding_table() -> str:
    """One row per depth: what float32 streams lose on the way back, and what those in fixed point lose."""
    rows = [
        [
            row["depth"],
            f"{row['float32']['largest_error']:.2g}",
            f"{row['float32']['outputs_that_differ']:,} of {row['neurons']:,}",
            f"{row['float32']['gradient_error']:.2g}",
            f"{row['fixed_point']['gradient_error']:.2g}",
        ]
        for row in _memory()["rounding"]
    ]
    header = [
        "blocks",
        "float32: largest error",
        "neuron outputs that differ",
        "error of the gradients",
        "fixed point: the same",
    ]
    return markdown(header, rows)


def megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def _memory() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / MEMORY).read_text())
    return found
