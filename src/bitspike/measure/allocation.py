"""The report's figure of an allocation of bits: what is given up at every cost, and the point that was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import plots

__all__ = ["allocation_figure"]

COSTS = {
    "bytes": (1e-3, "artifact (kB)"),
    "seconds": (1e3, "time of one inference (ms)"),
}


def allocation_figure(record: Mapping[str, Any]) -> str:
    """SVG of the record's front: accuracy against cost where at least two points have one, else the predicted loss."""
    factor, xlabel = COSTS[record["unit"]]
    points, chosen = record["front"], record["chosen"]
    known = [point for point in points if point.get("accuracy") is not None]
    if len(known) > 1:
        line = [(factor * p["cost"], 100 * p["accuracy"]) for p in known]
        mark = None if chosen.get("accuracy") is None else (factor * chosen["cost"], 100 * chosen["accuracy"])
        return plots.front(line, mark, xlabel, "accuracy (%)", "Accuracy against cost")
    line = [(factor * p["cost"], p["predicted"]) for p in points]
    mark = (factor * chosen["cost"], chosen["predicted"])
    return plots.front(line, mark, xlabel, "predicted loss (nats)", "Predicted loss against cost")
