"""Tables of the study of neurons, from its result files."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from compression_tables import points, spread
from engine_tables import markdown

RESULTS = Path(__file__).resolve().parent.parent / "results" / "neurons"
DATA = {"digits": "digits", "fashion-mnist": "Fashion-MNIST"}

# "k = T" stands for the length of the sequence, which is the paper's 32 on 32 columns.
PAPER = {  # best test accuracy on sequential CIFAR-10 (arXiv 2304.12760)
    "LIF without reset": 79.50,
    "LIF": 81.50,
    "PLIF": 83.49,
    "PSN": 88.45,
    "masked PSN, k = T": 85.81,
    "sliding PSN, k = T": 86.70,
}
# neuron, the one it is said to beat, by how many points in the paper's own tables
PSN_CLAIMS = (
    ("PSN", "sliding PSN, k = T", "+1.75"),
    ("sliding PSN, k = T", "masked PSN, k = T", "+0.89"),
    ("masked PSN, k = T", "LIF", "+4.31"),
    ("PSN", "LIF", "+6.95"),
    ("PLIF", "LIF", "+1.99"),
    ("LIF", "LIF without reset", "+2.00"),
    ("sliding PSN, k = 8", "sliding PSN, k = 1", "+10.27 (CIFAR-100)"),
    ("masked PSN, k = 8", "masked PSN, k = 1", "+11.10 (CIFAR-100)"),
)
ASN_CLAIMS = (
    ("NASN", "normalised integer LIF", "+0.13"),
    ("ASN", "integer LIF", "+0.04"),
    ("normalised integer LIF", "integer LIF", "+0.66"),
    ("integer LIF", "LIF", "+0.10"),
    ("NASN", "LIF", "+0.89"),
    ("LIF", "PSN", "+2.38"),
)
CLAIMS = {"psn": PSN_CLAIMS, "asn": ASN_CLAIMS}


def neurons_table(data: str) -> str:
    """One row per neuron: what it reached, what it cost."""
    result = _result(data)
    if result is None:
        return "Not measured."
    longest = f"k = {result['time_steps']}"
    table = []
    for variant in dict.fromkeys(row["variant"] for row in result["rows"]):
        own = [row for row in result["rows"] if row["variant"] == variant]
        paper = PAPER.get(variant.replace(longest, "k = T"))
        table.append(
            [
                variant,
                own[0]["plan"],
                len(own),
                spread([row["accuracy"] for row in own]),
                spread([row["firing_rate"] for row in own]),
                f"{statistics.median(row['epoch_cpu_s'] for row in own):.2f}",
                f"{own[0]['stored_bytes'] / 1e6:.1f}",
                own[0]["neuron_parameters"],
                "" if paper is None else f"{paper:.2f} %",
            ]
        )
    header = ["neuron", "optimizer", "seeds", "test accuracy", "firing rate", "epoch, CPU s", "stored, MB"]
    return markdown([*header, "parameters of neurons", "paper, CIFAR-10 columns"], table)


def claims_table(claims: str) -> str:
    """Differences of test accuracy in points, paired by seed, beside those of the paper's tables."""
    results = {title: _result(data) for data, title in DATA.items()}
    table = []
    for better, worse, paper in CLAIMS[claims]:
        cells = [points(_differences(result, better, worse)) for result in results.values()]
        table.append([f"{better} over {worse}", *cells, paper])
    return markdown(["difference in points", *results, "paper"], table)


def _differences(result: dict[str, Any] | None, better: str, worse: str) -> list[float]:
    if result is None:
        return []
    left, right = (name.replace("k = T", f"k = {result['time_steps']}") for name in (better, worse))
    found = {(row["variant"], row["seed"]): row["accuracy"] for row in result["rows"]}
    seeds = sorted(seed for variant, seed in found if variant == left and (right, seed) in found)
    return [found[left, seed] - found[right, seed] for seed in seeds]


def _result(data: str) -> dict[str, Any] | None:
    path = RESULTS / f"sequential-{data}.json"
    result: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return result
