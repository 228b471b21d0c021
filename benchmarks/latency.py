"""One command, one table: the engine at every level against torch and ONNX Runtime on the same networks.

    python benchmarks/latency.py [--network digits vgg8] [--bits 1 4] [--batch 1 16] [--budget 10] [--json FILE]

One thread, CPU time, runtimes in random order, median of all turns; spikes and logits are checked in the same run.
How to read it: README.md beside this file.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch create their pools

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from networks import SHAPES, WIDTHS, network, smooth_images

from bitspike import engine, measure
from bitspike.deploy import artifact
from bitspike.measure import units

CHECKED_SAMPLES = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=list(WIDTHS), default=list(WIDTHS))
    parser.add_argument("--bits", nargs="+", type=int, choices=range(1, 9), default=[1, 4], metavar="BITS")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--budget", type=float, default=10.0, help="seconds for each network and batch size")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    results = []
    equal = True
    for name in options.network:
        for bits in options.bits:
            result = bench(name, bits, options.batch, options.budget)
            equal &= not any(row["differing_spikes"] or row["differing_logits"] for row in result["agreement"])
            results.append(result)
            print(table(result), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({"environment": measure.environment(), "results": results}, indent=2) + "\n")
    return 0 if equal else 1


def bench(name: str, bits: int, batches: list[int], budget_s: float) -> dict[str, Any]:
    """Every figure of one network as plain values."""
    graph = network(name, bits)
    data = artifact.encode(graph)
    samples = smooth_images(SHAPES[name], max(CHECKED_SAMPLES, *batches), seed=2)
    rates = engine.load(data).rates(samples)
    agreement = measure.agreement_table(data, samples[:CHECKED_SAMPLES])
    latency = [row for b in batches for row in measure.measure_latency(data, samples, batch=b, budget_s=budget_s)]
    return {
        "network": name,
        "bits": bits,
        "time_steps": graph.time_steps,
        "artifact_bytes": len(data),
        "rates": rates,
        "agreement": [row.as_dict() for row in agreement],
        "latency": [row.as_dict() for row in latency],
    }


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table with a line above it."""
    rates = result["rates"].values()
    different = sum(row["differing_spikes"] + row["differing_logits"] for row in result["agreement"])
    compared = sum(row["spikes"] + row["logits"] for row in result["agreement"])
    lines = [
        f"\n{result['network']}, {result['bits']}-bit weights, T = {result['time_steps']}, artifact "
        f"{units.size(result['artifact_bytes'])}, firing rates {min(rates):.1%} to {max(rates):.1%}, "
        f"{different} of {units.whole(compared)} spikes and logits differ from the numpy reference\n",
        "| runtime | batch | median | minimum | per sample | ratio | file | same answer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["latency"]:
        cells = [
            row["name"],
            row["batch"],
            units.seconds(row["median_s"]),
            units.seconds(row["minimum_s"]),
            units.seconds(row["median_s"] / row["batch"]),
            units.times(row["ratio"]),
            "-" if row["file_bytes"] is None else units.size(row["file_bytes"]),
            units.percent(row["agreement"], 0),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |".replace("\u00a0", " "))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
