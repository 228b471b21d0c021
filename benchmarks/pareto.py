"""Accuracy against artifact size and against measured time, of the networks of a QP-SNN grid.

    python benchmarks/pareto.py results/qp-snn/fashion-mnist-vgg.json docs/images/qp-snn-vgg.png

Points are means over the seeds, bars one standard deviation; the line joins the points that no other one beats in both figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib
from compression_tables import accuracy

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MARKERS = {8: "s", 4: "o", 2: "^"}
VARIANTS = ("vanilla", "ReScaW", "vanilla + SCA", "vanilla + SVS", "ReScaW + SCA", "ReScaW + SVS", "SVS, then ReScaW")
AXES = {"artifact_bytes": (1e-3, "artifact (kB)"), "median_s": (1e3, "one sample, one thread (ms)")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    rows = json.loads(options.result.read_text())["rows"]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for panel, (key, (factor, label)) in zip(panels, AXES.items(), strict=True):
        draw(panel, points(rows, key, factor))
        panel.set_xlabel(label)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("test accuracy (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    handles += [plt.Line2D([], [], color="gray", marker=marker, linestyle="") for marker in MARKERS.values()]
    figure.legend(handles, [*labels, *(f"{bits} bits" for bits in MARKERS)], loc="outside right upper", fontsize=8)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=110)


def points(rows: list[dict[str, Any]], key: str, factor: float) -> list[tuple[str, int, float, float, float]]:
    """(variant, bits, cost, mean accuracy, deviation) of what is drawn."""
    found = []
    for variant in VARIANTS:
        for bits in MARKERS:
            own = [row for row in rows if row["variant"] == variant and row["bits"] == bits]
            costs = [factor * row[key] for row in own if key in row]
            accuracies = [100 * accuracy(row) for row in own]
            if costs:
                deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
                found.append((variant, bits, statistics.mean(costs), statistics.mean(accuracies), deviation))
    return found


def draw(panel: Any, found: list[tuple[str, int, float, float, float]]) -> None:
    colors = dict(zip(VARIANTS, plt.colormaps["tab10"].colors, strict=False))
    named = set()
    for variant, bits, cost, mean, deviation in found:
        label = None if variant in named else variant
        named.add(variant)
        panel.errorbar(cost, mean, deviation, color=colors[variant], marker=MARKERS[bits], label=label, linestyle="")
    best = [p for p in found if not any(o[2] <= p[2] and o[3] >= p[3] and o != p for o in found)]
    line = sorted((cost, mean) for _, _, cost, mean, _ in best)
    panel.plot(*zip(*line, strict=True), color="black", linewidth=0.8, zorder=0)


if __name__ == "__main__":
    main()
