"""Small spiking transformers on real data: ways of mixing tokens, gates of the saccadic attention, and its tokenizer.

    python benchmarks/former_study.py --seeds 0 1 2 --json results/formers/fashion-mnist.json
    python benchmarks/former_study.py --only "SNN-ViT, mix" --seeds 3 --json results/formers/fashion-mnist.json

Every network trains by the same plan on the same samples, one thread, batches and first weights by the seed. Its weights are
those of the epoch with the best validation accuracy; the test set is read once per run and chooses nothing. Rows that the
file has already are kept, so an interrupted study goes on where it stopped. Each row holds the firing rate of every neuron
layer over the test set; of a gate that is the share of tokens it lets pass. Times are CPU seconds of the process.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import study
from neurons import Clock
from torch import nn

from bitspike import learn, recipes
from bitspike.data import DataBundle
from bitspike.layers import QKTokenAttention, SaccadicAttention
from bitspike.learn import TrainConfig, Trainer
from bitspike.recipes.setup import DataChoice

PLAN = TrainConfig(
    epochs=4,
    batch_size=30,
    optimizer="adamw",
    learning_rate=0.02,  # of 0.002 to 0.02, by validation: results/formers/learning-rates.json
    weight_decay=0.06,
    warmup_epochs=0.5,
    label_smoothing=0.1,
    augment=("flip",),
)
TRAIN_SAMPLES = 3_000
VALIDATION_FRACTION = 1 / 60  # 1,000 images

FLAT: dict[str, Any] = {"T": 4, "dim": 48, "depth": 2, "heads": 3, "patch": 4, "mlp_ratio": 2}
QK: dict[str, Any] = {"name": "qkformer", "T": 4, "dim": 128, "depths": [1, 1, 1], "heads": 4, "mlp_ratio": 2}
SNNVIT: dict[str, Any] = {"name": "snnvit", **FLAT}
VARIANTS: dict[str, dict[str, Any]] = {
    "Spikingformer": {"name": "spikingformer", **FLAT},
    "Spikingformer, CML": {"name": "spikingformer", **FLAT, "downsampling": "currents"},
    "QKFormer, token masks": {**QK, "embedding": "imagenet", "mixers": ["token", "token", "token"]},
    "SNN-ViT, mix": SNNVIT,
    "SNN-ViT, decoupled": {**SNNVIT, "gate": "decoupled"},
    "SNN-ViT, lif": {**SNNVIT, "gate": "lif"},
    "SNN-ViT, learned alpha": {**SNNVIT, "alpha": "learned"},
    "SNN-ViT, plain stem": {**SNNVIT, "stem": "plain"},
    "SNN-ViT, token masks": {**SNNVIT, "gate": "token"},
}
GATES: dict[type[nn.Module], str] = {
    SaccadicAttention: "gate",
    QKTokenAttention: "neuron",
}  # where a token's bit is made
FIXED = ("plan", "train_samples", "validation_samples", "test_samples")


@dataclasses.dataclass(frozen=True)
class Config:
    """What the recipe's helpers read."""

    data: DataChoice
    model: dict[str, Any]
    seed: int


def main() -> None:
    parser = study.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="variants to train")
    parser.add_argument("--train-samples", type=int, default=TRAIN_SAMPLES)
    parser.add_argument("--test-samples", type=int, help="the first ones only, to try the study out")
    parser.add_argument("--epochs", type=int, default=PLAN.epochs)
    parser.add_argument("--learning-rate", type=float, default=PLAN.learning_rate)
    options = parser.parse_args()
    plan = dataclasses.replace(PLAN, epochs=options.epochs, learning_rate=options.learning_rate)
    choice = DataChoice("fashion-mnist", validation_fraction=VALIDATION_FRACTION, train_samples=options.train_samples)
    bundle = recipes.load_data(Config(choice, {}, 0))
    if options.test_samples is not None:
        bundle = dataclasses.replace(bundle, test=bundle.test.take(np.arange(options.test_samples)))
    result = study.begin(
        models=VARIANTS,
        plan=dataclasses.asdict(plan),
        train_samples=len(bundle.train),
        validation_samples=len(bundle.validation),
        test_samples=len(bundle.test),
    )
    resume(result, options.json)
    for seed in options.seeds:
        for variant in options.only:
            if all((row["variant"], row["seed"]) != (variant, seed) for row in result["rows"]):
                row = run(Config(choice, VARIANTS[variant], seed), plan, bundle)
                study.add(result, options.json, {"variant": variant, "seed": seed} | row)


def resume(result: dict[str, Any], path: Path) -> None:
    """Take the rows of an interrupted study with the same plan and data; models may have come since."""
    if not path.exists():
        return
    earlier = json.loads(path.read_text())
    differing = [fact for fact in FIXED if earlier.get(fact) != json.loads(json.dumps(result[fact]))]
    if differing:
        raise SystemExit(f"{path} was begun with another {', '.join(differing)}; remove it or choose another file")
    result["rows"] = earlier["rows"]


def run(config: Config, plan: TrainConfig, bundle: DataBundle) -> dict[str, Any]:
    """One network, trained and tested."""
    model = recipes.build_model(config, bundle.spec)
    best, clock = Best(model), Clock()
    trainer = Trainer(plan, on_epoch=clock.epoch, on_step=clock.step, seed=config.seed, logger=best.see)
    history = trainer.fit(model, bundle)
    model.load_state_dict(best.weights)
    tested = learn.evaluate(model, bundle.test)
    names = [f"{name}.{GATES[type(module)]}" for name, module in model.named_modules() if type(module) in GATES]
    gates = {name: tested.layer_rates[name] for name in names}
    return {
        "accuracy": tested.accuracy,
        "validation_accuracy": best.accuracy,
        "epoch": best.epoch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "firing_rate": tested.firing_rate,
        "gate_rate": statistics.mean(gates.values()) if gates else None,
        "gate_rates": gates,
        "layer_rates": tested.layer_rates,
        "epoch_cpu_s": statistics.median(clock.epochs),
        "history": [{k: r[k] for k in ("loss", "accuracy", "validation_accuracy", "firing_rate")} for r in history],
    }


class Best:
    """The weights after the epoch with the best validation accuracy, the first of equals."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.accuracy, self.epoch = -1.0, -1
        self.weights: dict[str, Any] = {}

    def see(self, epoch: int, record: dict[str, float]) -> None:
        if record["validation_accuracy"] > self.accuracy:
            self.accuracy, self.epoch = record["validation_accuracy"], epoch
            self.weights = copy.deepcopy(self.model.state_dict())


if __name__ == "__main__":
    main()
