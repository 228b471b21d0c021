"""Tables of the study of small spiking transformers, from its result file."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from compression_tables import points, spread
from engine_tables import markdown

RESULT = Path(__file__).resolve().parent.parent / "results" / "formers" / "fashion-mnist.json"
# variant, the one it is said to beat, by how many points in the paper's ablation (data set unknown to us), where both have
# the other part: with baseline 0, attention +2.65, stem +0.93, both +3.15, that is 3.15 - 0.93 and 3.15 - 2.65
CLAIMS = (
    ("SNN-ViT, mix", "SNN-ViT, token masks", "+2.22 (its own baseline)"),
    ("SNN-ViT, mix", "SNN-ViT, plain stem", "+0.50"),
    ("SNN-ViT, mix", "SNN-ViT, lif", ""),
    ("SNN-ViT, decoupled", "SNN-ViT, lif", ""),
    ("SNN-ViT, mix", "SNN-ViT, decoupled", ""),
    ("SNN-ViT, mix", "SNN-ViT, learned alpha", ""),
    ("SNN-ViT, mix", "Spikingformer", ""),
    ("Spikingformer, CML", "Spikingformer", "+0.89 (CIFAR-100)"),
)
DEPLOYED = ("spikingformer", "qkformer", "snn-vit", "bestformer")  # folders of results/ with runs of a recipe


def formers_table() -> str:
    """One row per variant: what it reached, how much of it fires, what it cost."""
    rows = _rows()
    if not rows:
        return "Not measured."
    table = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        gates = [row["gate_rate"] for row in own if row["gate_rate"] is not None]
        table.append(
            [
                variant,
                len(own),
                spread([row["accuracy"] for row in own]),
                spread([row["firing_rate"] for row in own]),
                spread(gates) if gates else "",
                own[0]["parameters"],
                f"{statistics.median(row['epoch_cpu_s'] for row in own):.1f}",
            ]
        )
    return markdown(
        ["network", "seeds", "test accuracy", "firing rate", "tokens let pass", "parameters", "epoch, CPU s"], table
    )


def claims_table() -> str:
    """Differences of test accuracy in points, paired by seed, beside those of the paper."""
    found = {(row["variant"], row["seed"]): row["accuracy"] for row in _rows()}
    table = []
    for better, worse, paper in CLAIMS:
        seeds = sorted(seed for variant, seed in found if variant == better and (worse, seed) in found)
        table.append([f"{better} over {worse}", points([found[better, s] - found[worse, s] for s in seeds]), paper])
    return markdown(["difference in points", "Fashion-MNIST", "paper"], table)


def deployed_table() -> str:
    """One row per run of a recipe: accuracies on the way to the artifact, its size, and one sample beside its rivals."""
    table = []
    for system in DEPLOYED:
        for path in sorted((RESULT.parents[1] / system).glob("digits-seed*.json")):
            result = json.loads(path.read_text())
            accuracy = result["accuracy"]
            trained = list(accuracy)[-3]  # the last stage before the fine-tuning on integers
            times = {row["name"]: row for row in result["latency"] if row["batch"] == 1}
            own = next(row for row in times.values() if row["runtime"] == "bitspike" and row["ratio"] == 1)
            rivals = [f"{times[f'ONNX Runtime {kind}']['ratio']:.1f}x" for kind in ("fp32", "int8")]
            table.append(
                [
                    system,
                    result["seed"],
                    *(f"{100 * accuracy[name]:.2f} %" for name in (trained, "engine")),
                    result["artifact_bytes"],
                    result["differing_bits"],
                    f"{1e3 * own['median_s']:.3f}",
                    *rivals,
                ]
            )
    if not table:
        return "Not measured."
    header = ["recipe", "seed", "low-bit network", "engine", "artifact, bytes", "differing bits", "one sample, ms"]
    return markdown([*header, "ONNX Runtime fp32", "int8"], table)


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    return rows
