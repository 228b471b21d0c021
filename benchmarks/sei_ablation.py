"""Binary-weight training by the self-ensemble view: what each part of it does on real data.

    python benchmarks/sei_ablation.py --seeds 0 1 2 --json results/sei-bwsnn/digits.json

One network size and one number of epochs for all. Plain: one shortcut per two convolutions. Accuracies are of the test set,
read once per run; nothing is chosen by them.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import study
import torch
from study import train
from torch import nn

from bitspike import data, learn, models
from bitspike.compress import BinaryWeights, apply
from bitspike.data import DataBundle
from bitspike.learn import Distillation, Distiller, TrainConfig
from bitspike.models.sei_resnet import self_ensemble_neuron
from bitspike.neurons import set_temporal_gradient

PLAN = TrainConfig(epochs=24, batch_size=64, learning_rate=0.3, weight_decay=0.0, warmup_epochs=2, augment=("crop1",))
TEACHER = PLAN
T = 2
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {"name": "resnet19", "width": 16, "blocks": [2, 2], "neuron": self_ensemble_neuron},
    "multiple shortcuts": {"name": "sei_resnet", "width": 16, "units": [4, 4]},
    "multiple shortcuts, deployable": {"name": "sei_resnet_spike", "width": 16, "units": [4, 4]},
}


def main() -> None:
    options = study.parser(__doc__).parse_args()
    bundle = data.load("digits", None, seed=0, validation_fraction=0.1)
    result = study.begin(T=T, plan=dataclasses.asdict(PLAN), teacher_plan=dataclasses.asdict(TEACHER))
    for seed in options.seeds:
        for variant, model in variants(bundle, seed):
            study.add(result, options.json, {"variant": variant, "seed": seed} | figures(model, bundle))


def variants(bundle: DataBundle, seed: int) -> Any:
    """(name, trained network) of every row."""
    teachers = {}
    for name in NETWORKS:
        teachers[name] = train(build(name, bundle, seed), bundle, TEACHER, seed)
        yield f"{name}, full-precision weights", teachers[name]
    for name in NETWORKS:
        yield f"{name}, binary", train(apply(build(name, bundle, seed), BinaryWeights()), bundle, PLAN, seed)
    for name in NETWORKS:
        distiller = Distiller(Distillation(), teachers[name])
        student = apply(build(name, bundle, seed), BinaryWeights())
        yield f"{name}, binary, distilled", train(student, bundle, PLAN, seed, distiller)
    full = apply(build("multiple shortcuts", bundle, seed), BinaryWeights())
    set_temporal_gradient(full, "full")
    yield "multiple shortcuts, binary, gradient through time", train(full, bundle, PLAN, seed)


def build(name: str, bundle: DataBundle, seed: int) -> nn.Module:
    spec, setting = bundle.spec, dict(NETWORKS[name])
    torch.manual_seed(seed)
    return models.create_model(
        setting.pop("name"),
        num_classes=len(spec.classes),
        T=T,
        input_shape=spec.shape,
        zero_point=spec.zero_point,
        input_scale=spec.scale,
        **setting,
    )


@torch.no_grad()
def figures(model: nn.Module, bundle: DataBundle) -> dict[str, float]:
    """Accuracy of the mean over steps, and the mean accuracy of the single steps (members of the ensemble)."""
    model.eval()
    logits = model(torch.from_numpy(bundle.test.inputs))
    labels = torch.from_numpy(bundle.test.labels)
    members = [(step.argmax(-1) == labels).float().mean().item() for step in logits]
    return {
        "accuracy": learn.evaluate(model, bundle.test).accuracy,
        "single_steps": statistics.mean(members),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


if __name__ == "__main__":
    main()
