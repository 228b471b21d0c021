"""BESTformer on real data: what binary weights and maps cost, and what two streams and a teacher give back.

    python benchmarks/bestformer_ablation.py --seeds 0 1 2 --json results/bestformer/fashion-mnist.json

All arms have one architecture with the same parameters, one plan and the same samples of Fashion-MNIST; batches, first
weights and the teacher follow the seed. The teacher is a convolutional network trained on those samples alone. Taught arms
learn labels with one head and its decisions with the other, the others learn the labels by the mean of both heads.
Accuracies are of the test set after the last epoch, read once per run; nothing is chosen by them. Rows that the file has
already are kept, so an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import study
import torch
from torch import Tensor, nn

from bitspike import learn, measure, models, recipes
from bitspike.compress import StandardizedBinary, apply
from bitspike.data import DataBundle
from bitspike.layers import mean_over_time
from bitspike.learn import BatchObjective, Distiller, MeanLogits, Objective, TrainConfig, two_head_distillation
from bitspike.recipes.setup import DataChoice

MODEL: dict[str, Any] = {"T": 2, "dim": 48, "depth": 2, "heads": 2, "patch": 4, "mlp_ratio": 2}
PLAN = TrainConfig(
    epochs=8,
    batch_size=25,
    optimizer="adamw",
    learning_rate=0.04,  # of 0.005 to 0.08, by validation: results/bestformer/learning-rates.json
    weight_decay=0.06,
    warmup_epochs=0.5,
    augment=("flip",),
)
TEACHER = {"name": "convnet", "widths": [16, 32, 64]}
TEACHER_PLAN = TrainConfig(
    epochs=10, batch_size=50, learning_rate=0.05, weight_decay=5e-4, warmup_epochs=1, augment=("flip",)
)
TRAIN_SAMPLES = 3_000
VALIDATION_FRACTION = 1 / 120  # 500 images
ALPHA, SMOOTHING = 0.5, 0.1


@dataclass(frozen=True)
class Arm:
    """``binary``: weights of 1 bit; ``taught``: learns from a teacher, too; ``options``: of the model."""

    binary: bool
    taught: bool
    options: dict[str, Any] = field(default_factory=dict)


COUNTS: dict[str, Any] = {"map_neuron": nn.Identity}
ONE: dict[str, Any] = {"streams": "one"}
ARMS = {
    "full precision, map of counts": Arm(False, False, ONE | COUNTS),
    "full precision, map of counts, taught": Arm(False, True, ONE | COUNTS),
    "binary weights, map of counts": Arm(True, False, ONE | COUNTS),
    "binary": Arm(True, False, ONE),
    "binary, two streams": Arm(True, False),
    "binary, taught": Arm(True, True, ONE),
    "binary, two streams, taught": Arm(True, True),
}


@dataclass(frozen=True)
class Config:
    """What the recipes' helpers read."""

    data: DataChoice
    model: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


def main() -> None:
    parser = study.parser(__doc__)
    parser.add_argument("--data-root")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--train-samples", type=int, default=TRAIN_SAMPLES)
    parser.add_argument("--epochs", type=int, default=PLAN.epochs, help="of the students")
    parser.add_argument("--learning-rate", type=float, default=PLAN.learning_rate, help="of the students")
    parser.add_argument("--teacher-epochs", type=int, default=TEACHER_PLAN.epochs)
    parser.add_argument("--test-samples", type=int, help="look at so many test images only, to try the study")
    options = parser.parse_args()
    choice = DataChoice(
        "fashion-mnist",
        options.data_root,
        validation_fraction=VALIDATION_FRACTION,
        train_samples=options.train_samples,
    )
    bundle = recipes.load_data(Config(choice))
    if options.test_samples is not None:
        bundle = dataclasses.replace(bundle, test=bundle.test.take(np.arange(options.test_samples)))
    plan = dataclasses.replace(PLAN, epochs=options.epochs, learning_rate=options.learning_rate)
    teacher_plan = dataclasses.replace(TEACHER_PLAN, epochs=options.teacher_epochs)
    result = study.begin(
        model=MODEL,
        train_samples=len(bundle.train),
        test_samples=len(bundle.test),
        plan=dataclasses.asdict(plan),
        teacher=TEACHER | {"plan": dataclasses.asdict(teacher_plan)},
        alpha=ALPHA,
        label_smoothing=SMOOTHING,
    )
    keep(result, options.json)
    done = {(row["variant"], row["seed"]) for row in result["rows"]}
    for seed in options.seeds:
        wanted = [name for name in options.arms if (name, seed) not in done]
        teacher = None
        if any(ARMS[name].taught for name in wanted):
            teacher, row = trained_teacher(bundle, teacher_plan, seed)
            if ("teacher", seed) not in done:
                study.add(result, options.json, row)
        for name in wanted:
            study.add(
                result, options.json, {"variant": name, "seed": seed} | run(ARMS[name], bundle, plan, seed, teacher)
            )


def keep(result: dict[str, Any], path: Path) -> None:
    """Take over the rows of an earlier run of the same study; what they were made with must be what is asked for now."""
    if not path.exists():
        return
    earlier = json.loads(path.read_text())
    differing = [
        key
        for key in json.loads(json.dumps(result))
        if key not in ("command", "torch", "rows") and earlier.get(key) != json.loads(json.dumps(result[key]))
    ]
    if differing:
        raise SystemExit(f"{path} was begun with other settings: {', '.join(differing)}")
    result["rows"] = earlier["rows"]


def trained_teacher(bundle: DataBundle, plan: TrainConfig, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """The teacher of a seed, and its row."""
    began = time.process_time()
    teacher = study.train(learn.build_teacher(TEACHER, bundle.spec, seed), bundle, plan, seed)
    spent = costs(teacher, began)
    accuracy = learn.evaluate(teacher, bundle.test).accuracy
    return teacher, {"variant": "teacher", "seed": seed, "accuracy": accuracy} | spent


def run(arm: Arm, bundle: DataBundle, plan: TrainConfig, seed: int, teacher: nn.Module | None) -> dict[str, Any]:
    """Train one network; its row."""
    spec = bundle.spec
    torch.manual_seed(seed)
    model = models.create_model(
        "bestformer",
        num_classes=len(spec.classes),
        input_shape=spec.shape,
        zero_point=spec.zero_point,
        input_scale=spec.scale,
        **MODEL | arm.options,
    )
    if arm.binary:
        apply(model, StandardizedBinary())
    objective: Objective | BatchObjective = MeanLogits(SMOOTHING)
    if arm.taught and teacher is not None:
        objective = Distiller(two_head_distillation(ALPHA, label_smoothing=SMOOTHING), teacher)
    began = time.process_time()
    study.train(model, bundle, plan, seed, objective)
    spent = costs(model, began)
    validation = learn.evaluate(model, bundle.validation).accuracy
    return {"validation_accuracy": validation} | tested(model, bundle) | spent


def costs(model: nn.Module, began: float) -> dict[str, float]:
    """Parameters, bytes, and processor seconds since ``began``."""
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "size_bytes": measure.model_size(model).bytes,
        "cpu_seconds": time.process_time() - began,
    }


def tested(model: nn.Module, bundle: DataBundle) -> dict[str, float]:
    """Accuracy of the mean of both heads and of each, and the mean firing rate, over the test set."""
    decisions: dict[str, list[Tensor]] = {"labels": [], "teacher": []}
    hooks = [
        getattr(model.readout, head).register_forward_hook(
            lambda _m, _i, logits, own=own: own.append(mean_over_time(logits).argmax(-1))
        )
        for head, own in decisions.items()
    ]
    found = learn.evaluate(model, bundle.test)
    for hook in hooks:
        hook.remove()
    labels = torch.from_numpy(bundle.test.labels)
    heads = {f"{head}_head": (torch.cat(own) == labels).float().mean().item() for head, own in decisions.items()}
    return {"accuracy": found.accuracy, **heads, "firing_rate": found.firing_rate}


if __name__ == "__main__":
    main()
