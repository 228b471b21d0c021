"""Tables of the documentation, made from the committed result files.

python benchmarks/method_tables.py            rewrite the tables between their markers
python benchmarks/method_tables.py --check    exit 1 where a page and the result files disagree
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bestformer_tables
import compression_tables
import engine_tables
import former_tables
import lif_tables
import neuron_tables
import training_tables
import transformer_tables
import web_table
from engine_tables import markdown

from bitspike.cli.runs import figures

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def runs(pattern: str) -> list[dict[str, Any]]:
    """Result files in results/ that match ``pattern``, by name."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]


def accuracy_table(pattern: str) -> str:
    """One row per seed: accuracies of the test set, artifact, differing bits, training time; then mean and spread."""
    found = runs(pattern)
    stages = [name for name in ("full precision", "quantized", "exact", "engine") if name in found[0]["accuracy"]]
    header = ["seed", *stages, "artifact, bytes", "differing bits", "training, min", "command"]
    rows = [
        [
            r["seed"],
            *(percent(r["accuracy"][s]) for s in stages),
            r["artifact_bytes"],
            r["differing_bits"],
            f"{sum(r['train_seconds'].values()) / 60:.1f}",
            f"`{r['command']}`",
        ]
        for r in found
    ]
    if len(found) > 1:
        columns = [[r["accuracy"][s] for r in found] for s in stages]
        rows.append(["mean ± std", *(spread(c) for c in columns), "", "", "", ""])
    return markdown(header, rows)


def ablation_table(name: str) -> str:
    """Mean ± standard deviation over the seeds per variant."""
    found = json.loads((RESULTS / name).read_text())["rows"]
    variants = list(dict.fromkeys(row["variant"] for row in found))
    rows = []
    for variant in variants:
        own = [row for row in found if row["variant"] == variant]
        cells = [spread([r[key] for r in own if r[key] is not None]) for key in ("quantized", "frozen", "exact")]
        rows.append([variant, len(own), *cells, spread([r["firing_rate"] for r in own])])
    return markdown(["variant", "seeds", "quantized", "frozen, untrained", "exact", "firing rate"], rows)


def latency_table(name: str) -> str:
    """Latency, file and memory of one run's artifact beside the rivals."""
    result = json.loads((RESULTS / name).read_text())
    peaks = {row["name"]: row["peak_bytes"] for row in result.get("memory", [])}
    rows = [
        [
            row["name"],
            row["batch"],
            f"{1e3 * row['median_s']:.3f}",
            f"{row['ratio']:.1f}x",
            f"{row['file_bytes'] / 1e3:.1f}" if row["file_bytes"] else "",
            f"{peaks[own] / 1e6:.0f}" if (own := peak_name(row)) in peaks else "",
        ]
        for row in result["latency"]
    ]
    return markdown(["runtime", "batch", "median, ms", "times bitspike", "file, kB", "peak memory, MB"], rows)


def peak_name(row: dict[str, Any]) -> str:
    """Name of a latency row in the memory figures: the engine's levels share one."""
    return "bitspike" if row["runtime"] == "bitspike" else str(row["name"])


def summary_table(name: str) -> str:
    """What the command line prints at the end of the run."""
    result = json.loads((RESULTS / name).read_text())
    return markdown(["figure", "value"], figures(result, Path("runs/demo")))


TABLES: dict[str, Callable[[], str]] = {
    "demo": lambda: summary_table("q-snn/digits-seed0.json"),
    "digits": lambda: accuracy_table("q-snn/digits-seed*.json"),
    "fashion-mnist": lambda: accuracy_table("q-snn/fashion-mnist-seed*.json"),
    "ablation-digits": lambda: ablation_table("q-snn/ablation-digits.json"),
    "latency-digits": lambda: latency_table("q-snn/digits-seed0.json"),
    "latency-fashion-mnist": lambda: latency_table("q-snn/fashion-mnist-seed0.json"),
    "qp-snn-vgg": lambda: compression_tables.grid_table("qp-snn/fashion-mnist-vgg.json"),
    "qp-snn-vgg-claims": lambda: compression_tables.claims_table("qp-snn/fashion-mnist-vgg.json"),
    "qp-snn-resnet": lambda: compression_tables.grid_table("qp-snn/fashion-mnist-resnet.json"),
    "qp-snn-resnet-claims": lambda: compression_tables.claims_table("qp-snn/fashion-mnist-resnet.json"),
    "lats": lambda: compression_tables.variants_table(
        "lats/digits.json", ("sparsity", "accuracy", "dense_bytes", "smallest_bytes")
    ),
    "sei-bwsnn": lambda: compression_tables.variants_table(
        "sei-bwsnn/digits.json", ("accuracy", "single_steps", "parameters")
    ),
    "bestformer": bestformer_tables.ablation_table,
    "bestformer-claims": bestformer_tables.claims_table,
    "bestformer-memory": bestformer_tables.memory_table,
    "bestformer-rounding": bestformer_tables.rounding_table,
    "bits": lambda: compression_tables.variants_table("compress/bits-digits.json", ("accuracy", "artifact_bytes")),
    "web": lambda: web_table.table(json.loads((RESULTS / "web" / "chromium.json").read_text())["results"]),
}


def engine_table(name: str) -> str:
    """A table of what ``engine.py`` measured."""
    section, _, make = engine_tables.TABLES[name]
    result = json.loads((RESULTS / "engine" / "engine.json").read_text())
    return make(result) if not section or result.get(section) else "Not measured."


TABLES |= {f"neurons-{data}": partial(neuron_tables.neurons_table, data) for data in neuron_tables.DATA}
TABLES |= {f"neurons-{page}-claims": partial(neuron_tables.claims_table, page) for page in neuron_tables.CLAIMS}
TABLES |= {
    "formers": former_tables.formers_table,
    "formers-claims": former_tables.claims_table,
    "formers-deployed": former_tables.deployed_table,
}
TABLES |= {f"engine-{name}": partial(engine_table, name) for name in engine_tables.TABLES}
TABLES |= {
    f"lif-{direction}-{threads}": partial(lif_tables.committed, threads, direction)
    for direction in ("forward", "both")
    for threads in (1, 2)
}
TABLES |= {
    f"lif-kept-{threads}": partial(lif_tables.committed, threads, "both", "lif-cpu-kept.json") for threads in (1, 2)
}
TABLES |= {"transformer": transformer_tables.committed}
TABLES |= {f"training-{group}": partial(training_tables.committed, group) for group in ("libraries", "long")}


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def spread(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return percent(values[0])
    return f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f} %"


def rewritten(text: str) -> str:
    """``text`` with every table between ``<!-- table:NAME -->`` and ``<!-- end -->`` made anew."""
    return re.sub(
        r"(<!-- table:(\S+) -->\n).*?(<!-- end -->)",
        lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = []
    for page in PAGES:
        old = page.read_text()
        new = rewritten(old)
        if new != old:
            stale.append(str(page.relative_to(ROOT)))
            if not options.check:
                page.write_text(new)
    print("stale: " + ", ".join(stale) if options.check and stale else "tables agree with the result files")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
