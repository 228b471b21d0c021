"""Soft-threshold pruning on real data: accuracy at equal sparsity of the schedules, and of what they are compared with.

    python benchmarks/lats_sparsity.py --seeds 0 1 2 --json results/lats/digits.json

Every schedule's final threshold is found by bisection on runs of seed 0, judged by sparsity alone, and then kept for all
seeds. All variants train for the same number of epochs in all. "Magnitude" prunes a trained dense network once, without
and with fine-tuning of the survivors. Accuracies are of the test set, read once per run; nothing is chosen by them.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import study
import torch
from study import train
from torch import nn

from bitspike import compress, learn, measure, recipes
from bitspike.compress import FreezeMask, SoftThresholdPruning, apply, search_threshold, sparsity, threshold_driver
from bitspike.compress.mixed import weight_layers
from bitspike.data import DataBundle, num_batches
from bitspike.learn import TrainConfig
from bitspike.learn.schedule import learning_rate_factor

TARGETS = (0.9,)
TOLERANCE = 0.01
EPOCHS = 24
SHORT = 8  # epochs of a first phase; the second one has the rest
INITIAL = 4  # epochs that find the mask of pruning at initialisation
PLAN = TrainConfig(epochs=EPOCHS, batch_size=64, learning_rate=0.1, warmup_epochs=2, augment=("crop1",))
BETA = 0.1


def main() -> None:
    parser = study.parser(__doc__)
    parser.add_argument("--data-root")
    options = parser.parse_args()
    root = [f"data.root={json.dumps(options.data_root)}"] if options.data_root else []
    config = recipes.load_config("lats", "digits", root)
    bundle = recipes.load_data(config)
    result = study.begin(model=config.model, plan=dataclasses.asdict(PLAN), beta=BETA, thresholds={})

    def fresh(seed: int) -> nn.Module:
        return recipes.build_model(dataclasses.replace(config, seed=seed), bundle.spec)

    for target in TARGETS:
        for name, variant in SEARCHED.items():
            began = time.perf_counter()
            found = search_threshold(
                lambda d, variant=variant: sparsity(variant(fresh, bundle, 0, d)).ratio,
                target,
                start=compress.initial_threshold(fresh(0), target) / 2,
                tolerance=TOLERANCE,
                max_runs=8,
            )
            record = {"threshold": found.threshold, "tried": found.tried, "seconds": time.perf_counter() - began}
            result["thresholds"][f"{name}, {target:.0%}"] = record
            print(name, target, record, file=sys.stderr, flush=True)
    for seed in options.seeds:
        dense = train(fresh(seed), bundle, PLAN, seed)
        add(result, options.json, "dense", seed, dense, bundle)
        for target in TARGETS:
            for name, variant in SEARCHED.items():
                d = result["thresholds"][f"{name}, {target:.0%}"]["threshold"]
                add(result, options.json, f"{name}, {target:.0%}", seed, variant(fresh, bundle, seed, d), bundle)
            short = train(fresh(seed), bundle, dataclasses.replace(PLAN, epochs=SHORT), seed)
            for name, trained in (("magnitude, not fine-tuned", dense), ("magnitude, fine-tuned", short)):
                pruned = prune_smallest(trained, target)
                if trained is short:
                    rest = dataclasses.replace(PLAN, epochs=EPOCHS - SHORT, warmup_epochs=0.0)
                    pruned = train(apply(pruned, FreezeMask()), bundle, rest, seed + 1)
                add(result, options.json, f"{name}, {target:.0%}", seed, pruned, bundle)


def sparsified(
    model: nn.Module, method: SoftThresholdPruning, bundle: DataBundle, plan: TrainConfig, seed: int
) -> nn.Module:
    """Apply ``method`` to ``model`` and train it in place; the threshold rises along the way."""
    batches = num_batches(len(bundle.train), plan.batch_size, drop_last=True)
    steps = range(plan.epochs * batches)
    rates = [
        plan.learning_rate * learning_rate_factor(step // batches + step % batches / batches, plan) for step in steps
    ]
    return train(apply(model, method), bundle, plan, seed, on_step=threshold_driver(method, rates))


Fresh = Callable[[int], nn.Module]


def scheduled(schedule: str, beta: float | None = None) -> Callable[[Fresh, DataBundle, int, float], nn.Module]:
    """Sparsify during all of the training."""

    def run(fresh: Fresh, bundle: DataBundle, seed: int, threshold: float) -> nn.Module:
        method = SoftThresholdPruning(threshold, schedule, beta)
        return sparsified(fresh(seed), method, bundle, PLAN, seed)

    return run


def early(fresh: Fresh, bundle: DataBundle, seed: int, threshold: float) -> nn.Module:
    """Early pruning: PGH in the first phase, then the survivors alone."""
    method = SoftThresholdPruning(threshold, "pgh", BETA)
    model = sparsified(fresh(seed), method, bundle, dataclasses.replace(PLAN, epochs=SHORT), seed)
    rest = dataclasses.replace(PLAN, epochs=EPOCHS - SHORT, warmup_epochs=0.0)
    return train(apply(model, FreezeMask()), bundle, rest, seed + 1)


def at_initialisation(fresh: Fresh, bundle: DataBundle, seed: int, threshold: float) -> nn.Module:
    """Pruning at initialisation: a few epochs find the mask, survivors start anew."""
    method = SoftThresholdPruning(threshold, "lats")
    finding = dataclasses.replace(PLAN, epochs=INITIAL, warmup_epochs=0.0)
    model = sparsified(fresh(seed), method, bundle, finding, seed)
    compress.rewind(apply(model, FreezeMask()), fresh(seed).state_dict())
    return train(model, bundle, dataclasses.replace(PLAN, epochs=EPOCHS - INITIAL), seed + 1)


SEARCHED = {
    "LATS": scheduled("lats"),
    "S-LATS": scheduled("s-lats"),
    f"PGH {BETA}": scheduled("pgh", BETA),
    "linear": scheduled("linear"),
    "early pruning": early,
    "pruning at initialisation": at_initialisation,
}


@torch.no_grad()
def prune_smallest(model: nn.Module, share: float) -> nn.Module:
    """A copy with the ``share`` of smallest weights, over all layers, set to zero."""
    pruned = copy.deepcopy(model)
    threshold = compress.initial_threshold(pruned, share)
    for layer in weight_layers(pruned).values():
        layer.weight.masked_fill_(layer.weight.abs() <= threshold, 0)
    return pruned


def add(result: dict[str, Any], path: Path, variant: str, seed: int, model: nn.Module, bundle: DataBundle) -> None:
    sizes = measure.sparse_size(compress.bake(copy.deepcopy(model)))
    row = {
        "variant": variant,
        "seed": seed,
        "sparsity": sparsity(model).ratio,
        "accuracy": learn.evaluate(model, bundle.test).accuracy,
        "dense_bytes": sizes.dense_bytes,
        "smallest_bytes": sizes.smallest_bytes,
    }
    study.add(result, path, row)


if __name__ == "__main__":
    main()
