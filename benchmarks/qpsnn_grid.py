"""QP-SNN's ablation and order study on real data: quantizer, pruning score and order, at several bit widths.

    python benchmarks/qpsnn_grid.py --network vgg --seeds 0 1 2 --json results/qp-snn/fashion-mnist-vgg.json
    python benchmarks/qpsnn_grid.py --network vgg --time --json results/qp-snn/fashion-mnist-vgg.json

Every quantized network starts from scratch (the first phase), every pruned one from a trained network, with a second,
shorter phase of fine-tuning; both orders get the same number of training samples in all. First and last layer have 8
bits, all others the bits of the row. Each network is compiled and its test accuracy is that of the engine; the test set
chooses nothing. Interrupted, it goes on with the rows that are missing. ``--time`` times one sample on every artifact
(seed 0), interleaved, one thread, and adds the medians: run it on an idle machine.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitspike import compress, deploy, engine, learn, measure, recipes
from bitspike.compress import QPSNN, CompressionConfig, Prune, VanillaQuantization
from bitspike.data import DataBundle
from bitspike.learn import SpikeRegulation, TrainConfig, Trainer
from bitspike.measure.timing import interleaved
from bitspike.recipes.setup import DataChoice, calibration_batches

FIRST = TrainConfig(
    epochs=5, batch_size=60, learning_rate=0.1, warmup_epochs=0.25, weight_decay=1e-5, augment=("flip",)
)
SMALL_BATCHES = dataclasses.replace(FIRST, epochs=6, batch_size=30)  # the ResNet needs more steps
BITS = (8, 4, 2)
NETWORKS: dict[str, dict[str, Any]] = {
    "vgg": {
        "model": {"name": "vggsnn", "T": 2, "widths": [16, "P", 32, "P", 64, 64, "P"]},
        "ratio": {"features.0": 0.5, "features.2": 0.5, "features.4": 0.6},
        "train_samples": 6_000,
        "first_phase": FIRST,
    },
    "resnet": {
        "model": {"name": "resnet20", "T": 2, "width": 6, "blocks": [1, 1, 1]},
        "ratio": {
            "stem.0": 0.1,
            "stages.0.second": 0.3,
            "stages.1.second": 0.3,
            **dict.fromkeys(("stages.0.first", "stages.1.first", "stages.2.first"), 0.5),
        },
        "train_samples": 4_000,
        "first_phase": SMALL_BATCHES,
    },
}
QUANTIZERS = {"vanilla": VanillaQuantization, "ReScaW": QPSNN}
SCORES = {"SCA": "sca", "SVS": "svs"}


@dataclasses.dataclass(frozen=True)
class Config:
    """What the recipe's helpers read."""

    data: DataChoice
    model: dict[str, Any]
    seed: int


@dataclasses.dataclass
class Experiment:
    """One network and seed."""

    config: Config
    ratio: dict[str, float]
    bundle: DataBundle
    folder: Path
    first_phase: TrainConfig

    def fresh(self) -> nn.Module:
        return recipes.build_model(self.config, self.bundle.spec)

    def apply(self, model: nn.Module, *methods: CompressionConfig) -> nn.Module:
        """A compressed copy."""
        copied = copy.deepcopy(model)
        calibration = calibration_batches(self.bundle.train, 5, 128, self.config.seed)
        for method in methods:
            compress.apply(copied, method, calibration=calibration)
        return copied

    def train(self, model: nn.Module, phase: TrainConfig) -> nn.Module:
        Trainer(phase, objective=SpikeRegulation(0.0), seed=self.config.seed).fit(model, self.bundle)
        return model

    def prune(self, score: str) -> Prune:
        return Prune(ratio=self.ratio, score=score)

    def figures(self, name: str, model: nn.Module) -> dict[str, Any]:
        """Accuracies and sizes; a quantized network is compiled, and its figures are those of the artifact."""
        row = {
            "accuracy_torch": learn.evaluate(model, self.bundle.test).accuracy,
            "validation_accuracy": learn.evaluate(model, self.bundle.validation).accuracy,
            "parameters": measure.model_size(model).parameters,
            "size_bytes": measure.model_size(model).bytes,
        }
        if not any(isinstance(method, VanillaQuantization | QPSNN) for method in compress.applied(model)):
            return row
        path = self.folder / f"{name}.bspk"
        deploy.compile(deploy.exact_model(model).eval(), self.bundle.validation.inputs[:64]).save(path)
        logits = engine.load(path).run(self.bundle.test.inputs)
        exact = deploy.integer_logits(model.eval(), torch.from_numpy(self.bundle.test.inputs))
        return row | {
            "accuracy": float((logits.argmax(-1) == self.bundle.test.labels).mean()),
            "differing_logits": int((logits != exact).sum()),
            "artifact_bytes": path.stat().st_size,
        }


def fine_tuning(first: TrainConfig) -> TrainConfig:
    """The second phase that follows ``first``."""
    return dataclasses.replace(first, epochs=2, optimizer="adamw", learning_rate=1e-3, warmup_epochs=0.0)


def networks(run: Experiment) -> Iterator[tuple[str, int | None, nn.Module]]:
    """(variant, bits, trained network), each variant after those it starts from."""
    first, second = run.first_phase, fine_tuning(run.first_phase)
    full = run.train(run.fresh(), first)
    yield "full precision", None, full
    for bits in BITS:
        for quantizer, method in QUANTIZERS.items():
            quantized = run.train(run.apply(run.fresh(), method(weight_bits=bits, edge_bits=8)), first)
            yield quantizer, bits, quantized
            for score, kind in SCORES.items():
                pruned = run.apply(quantized, run.prune(kind))
                yield f"{quantizer} + {score}, not fine-tuned", bits, pruned
                yield f"{quantizer} + {score}", bits, run.train(copy.deepcopy(pruned), second)
        for quantizer, score in (("vanilla", "SCA"), ("ReScaW", "SVS")):
            method = QUANTIZERS[quantizer](weight_bits=bits, edge_bits=8)
            first_pruned = run.apply(full, run.prune(SCORES[score]), method)
            yield f"{score}, then {quantizer}", bits, run.train(first_pruned, second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-root")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--artifacts", type=Path, default=Path("runs/qp-snn-grid"))
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = json.loads(options.json.read_text()) if options.json.exists() else begin(options)
    if options.time:
        add_times(result["rows"], options)
    else:
        for seed in options.seeds:
            train_all(result, options, seed)
    save(result, options.json)


def begin(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": " ".join(["python", *sys.argv]),
        "data": options.data,
        **NETWORKS[options.network],
        "first_phase": dataclasses.asdict(NETWORKS[options.network]["first_phase"]),
        "second_phase": dataclasses.asdict(fine_tuning(NETWORKS[options.network]["first_phase"])),
        "torch": torch.__version__,
        "rows": [],
    }


def train_all(result: dict[str, Any], options: argparse.Namespace, seed: int) -> None:
    """Add the rows of ``seed`` that are missing."""
    setting = NETWORKS[options.network]
    choice = DataChoice(options.data, options.data_root, train_samples=setting["train_samples"])
    config = Config(choice, setting["model"], seed)
    folder = options.artifacts / options.network / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    run = Experiment(config, setting["ratio"], recipes.load_data(config), folder, setting["first_phase"])
    done = {(row["variant"], row["bits"]) for row in result["rows"] if row["seed"] == seed}
    began = time.perf_counter()
    for variant, bits, model in networks(run):
        if (variant, bits) not in done:
            figures = run.figures(file_name(variant, bits), model)
            row = {"variant": variant, "bits": bits, "seed": seed, **figures}
            result["rows"].append(row | {"seconds": round(time.perf_counter() - began, 1)})
            save(result, options.json)
            print(json.dumps(row), file=sys.stderr, flush=True)
        began = time.perf_counter()


def add_times(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Median seconds of one sample on each artifact of seed 0, all in one interleaved run."""
    config = Config(DataChoice(options.data, options.data_root), NETWORKS[options.network]["model"], 0)
    sample = recipes.load_data(config).validation.inputs[:1]
    timed = [row for row in rows if row["seed"] == 0 and "artifact_bytes" in row and "fine-tuned" not in row["variant"]]
    folder = options.artifacts / options.network / "seed0"
    names = [file_name(row["variant"], row["bits"]) for row in timed]
    loaded = {name: engine.load(folder / f"{name}.bspk") for name in names}
    calls = {name: functools.partial(network.run, sample, threads=1) for name, network in loaded.items()}
    timings, _ = interleaved(calls, budget_s=60.0)
    for row, name in zip(timed, names, strict=True):
        row["median_s"] = timings[name].median_s


def file_name(variant: str, bits: int | None) -> str:
    return f"{variant}-{bits}".replace(",", "").replace(" + ", "-").replace(" ", "-").lower()


def save(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
