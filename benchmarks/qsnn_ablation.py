"""Q-SNN ablation on real data: what each part of the method does to accuracy.

    python benchmarks/qsnn_ablation.py --data digits --seeds 0 1 2 --out results/q-snn/ablation-digits.json

Every variant is the shipped configuration with the changes named in VARIANTS. Accuracies are of the test set, read
once per run after the last epoch; nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from bitspike import compress, deploy, learn, recipes
from bitspike.learn import SpikeRegulation, Trainer
from bitspike.recipes import build_model, load_data

VARIANTS: dict[str, list[str]] = {
    "1-bit, 8-bit membrane": ["compress.membrane_bits=8"],
    "1-bit, 4-bit membrane (shipped)": [],
    "1-bit, 2-bit membrane": ["compress.membrane_bits=2"],
    "1-bit, 4-bit membrane, released rule": ["compress.membrane=released"],
    "without spike regulation": ["regulation.weight=0"],
    "strong spike regulation (weight 0.5)": ["regulation.weight=0.5"],
    "plain sign, without spike regulation": ["compress.binarizer=plain-sign", "regulation.weight=0"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="settings applied to every variant")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for variant, changes in VARIANTS.items():
        for seed in options.seeds:
            row = {"variant": variant, "seed": seed} | run(options, changes, seed)
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            result = {"command": " ".join(["python", *sys.argv]), "torch": torch.__version__, "rows": rows}
            options.out.write_text(json.dumps(result, indent=1) + "\n")


def run(options: argparse.Namespace, changes: list[str], seed: int) -> dict[str, float | None]:
    """Quantized and exact test accuracy, firing rates, and seconds of one variant."""
    root = [f"data.root={json.dumps(options.data_root)}"] if options.data_root else []
    config = recipes.load_config("q-snn", options.data, [f"seed={seed}", *root, *changes, *options.settings])
    bundle = load_data(config)
    began = time.perf_counter()
    model = build_model(config, bundle.spec, [config.compress])

    def fit(target: torch.nn.Module, stage: learn.TrainConfig, stage_seed: int) -> None:
        objective = SpikeRegulation(config.regulation.weight, config.regulation.target_rate, stage.label_smoothing)
        hook = compress.set_training_progress
        Trainer(stage, objective=objective, on_epoch=hook, seed=stage_seed).fit(target, bundle)

    fit(model, config.train, seed)
    quantized = learn.evaluate(model, bundle.test)
    frozen = None
    if config.compress.membrane == "released":
        compress.freeze_membranes(model)
        frozen = learn.evaluate(model, bundle.test).accuracy
    exact_accuracy = exact_rate = None
    if config.compress.binarizer == "standardized":
        exact = deploy.exact_model(model)
        fit(exact, config.exact, seed + recipes.qsnn.EXACT_SEED_OFFSET)
        final = learn.evaluate(exact, bundle.test)
        exact_accuracy, exact_rate = final.accuracy, final.firing_rate
    return {
        "quantized": quantized.accuracy,
        "frozen": frozen,
        "exact": exact_accuracy,
        "firing_rate": quantized.firing_rate,
        "exact_firing_rate": exact_rate,
        "seconds": round(time.perf_counter() - began, 1),
    }


if __name__ == "__main__":
    main()
