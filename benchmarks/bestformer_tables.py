"""Tables of the BESTformer page, from its result files."""

from __future__ import annotations

import json
from typing import Any

import compression_tables
from compression_tables import RESULTS
from engine_tables import markdown

ABLATION = "bestformer/fashion-mnist.json"
MEMORY = "bestformer/memory.json"
COLUMNS = ("accuracy", "labels_head", "teacher_head", "firing_rate", "size_bytes", "cpu_seconds")


def ablation_table() -> str:
    """Mean ± standard deviation over the seeds of every arm."""
    if not (RESULTS / ABLATION).exists():
        return "Not measured yet."
    return compression_tables.variants_table(ABLATION, COLUMNS)


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
