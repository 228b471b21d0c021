"""Every neuron on the same task: images one column per step, the sequential tasks of the parallel spiking neurons.

    python benchmarks/neurons.py --data digits --json results/neurons/sequential-digits.json
    python benchmarks/neurons.py --data fashion-mnist --json results/neurons/sequential-fashion-mnist.json

One network, one loss, one number of epochs. The paper trains sliding PSNs with AdamW and all others with SGD; here every
neuron trains with both on the first seed, validation accuracy chooses, and all seeds use what was chosen. Weights are those
of the last epoch. The test set is read once per row. Neurons that fire zeros and ones share the paper's surrogate.

Interrupted, it goes on with the rows that are missing. Times are CPU seconds of the process, on one thread.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import study
import torch
from torch import nn

from bitspike import learn, recipes
from bitspike.data import DataBundle
from bitspike.learn import MeanLogits, TrainConfig
from bitspike.learn.evaluate import to_model_input
from bitspike.neurons import (
    ASN,
    LIF,
    NASN,
    PLIF,
    PSN,
    AdaptiveLIF,
    IntegerLIF,
    MaskedPSN,
    Neuron,
    NormalizedIntegerLIF,
    SlidingPSN,
    TernaryLIF,
    mask_schedule,
)
from bitspike.ops import ATan
from bitspike.recipes.stages import StagesConfig

Factory = Callable[[], Neuron]

PLANS = {
    "SGD 0.1": TrainConfig(optimizer="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.0),
    "AdamW 0.001": TrainConfig(optimizer="adamw", learning_rate=0.001, weight_decay=0.0),
}
SIZES: dict[str, dict[str, Any]] = {
    "digits": {"settings": [], "epochs": 30, "batch_size": 64},
    "fashion-mnist": {"settings": ["data.train_samples=3000"], "epochs": 8, "batch_size": 32},
}
SERIAL: dict[str, Any] = {"detach_reset": True, "reset": "soft", "surrogate": ATan()}


def lif_without_reset(time_steps: int) -> PSN:
    """A LIF with decayed input that is never reset: a PSN with the fixed matrix W[t, i] = (1/2)^(t - i + 1) for i <= t."""
    neuron, steps = PSN(time_steps), torch.arange(time_steps)
    neuron.weight.data = torch.tril(2.0 ** (steps[None, :] - steps[:, None] - 1))
    return neuron.requires_grad_(False)


def variants(time_steps: int) -> dict[str, Factory]:
    """Name in the table -> what makes the neuron."""
    orders = sorted({1, 8, time_steps})
    return {
        "LIF without reset": functools.partial(lif_without_reset, time_steps),
        "LIF": functools.partial(LIF, decay_input=True, **SERIAL),
        "PLIF": functools.partial(PLIF, decay_input=True, **SERIAL),
        "PSN": functools.partial(PSN, time_steps),
        **{f"masked PSN, k = {k}": functools.partial(MaskedPSN, time_steps, order=k) for k in orders},
        **{f"sliding PSN, k = {k}": functools.partial(SlidingPSN, k) for k in orders},
        "integer LIF": IntegerLIF,
        "normalised integer LIF": NormalizedIntegerLIF,
        "ASN": ASN,
        "NASN": NASN,
        "ternary LIF": functools.partial(TernaryLIF, **SERIAL),
        "adaptive LIF": functools.partial(AdaptiveLIF, **SERIAL),
    }


class Clock:
    """CPU seconds from the start of every epoch to its last step."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def epoch(self, model: nn.Module, progress: float) -> None:
        self.began = time.process_time()
        self.epochs.append(0.0)

    def step(self, model: nn.Module, learning_rate: float) -> None:
        self.epochs[-1] = time.process_time() - self.began


def main() -> None:
    parser = study.parser(__doc__)
    parser.add_argument("--data", choices=SIZES, required=True)
    options = parser.parse_args()
    size = SIZES[options.data]
    config = recipes.load_config("sequential", options.data, size["settings"])
    bundle = recipes.load_data(config)
    plans = {
        name: dataclasses.replace(plan, epochs=size["epochs"], batch_size=size["batch_size"])
        for name, plan in PLANS.items()
    }
    time_steps = bundle.spec.time_steps
    assert time_steps is not None
    result = study.begin(
        data=options.data,
        time_steps=time_steps,
        model={key: value for key, value in config.model.items() if key != "neuron"},
        train_samples=len(bundle.train),
        validation_samples=len(bundle.validation),
        test_samples=len(bundle.test),
        plans={name: dataclasses.asdict(plan) for name, plan in plans.items()},
        search={},
    )
    resume(result, options.json)
    for seed in options.seeds:
        for name, neuron in variants(time_steps).items():
            if all((row["variant"], row["seed"]) != (name, seed) for row in result["rows"]):
                run = functools.partial(trained, config, bundle, neuron, seed)
                add(result, options.json, name, seed, run, plans, bundle)


def resume(result: dict[str, Any], path: Path) -> None:
    """Take the rows of an interrupted run with the same facts."""
    if not path.exists():
        return
    earlier = json.loads(path.read_text())
    facts = set(result) - {"command", "torch", "search", "rows"}
    differing = sorted(fact for fact in facts if earlier.get(fact) != json.loads(json.dumps(result[fact])))
    if differing:
        raise SystemExit(f"{path} was begun with other settings ({', '.join(differing)}); remove it or choose another")
    result |= {key: earlier[key] for key in ("search", "rows")}


Run = Callable[[TrainConfig], tuple[nn.Module, Clock]]


def add(
    result: dict[str, Any],
    path: Path,
    name: str,
    seed: int,
    run: Run,
    plans: dict[str, TrainConfig],
    bundle: DataBundle,
) -> None:
    """Train one neuron from one seed, its plan chosen before or now, and record it."""
    known = result["search"].get(name)
    names = [known["chosen"]] if known else list(plans)
    runs = {plan: run(plans[plan]) for plan in names}
    scores = {plan: learn.evaluate(model, bundle.validation).accuracy for plan, (model, _) in runs.items()}
    plan = max(scores, key=scores.__getitem__)
    if not known:
        result["search"][name] = {"chosen": plan, "seed": seed, "validation_accuracy": scores}
    model, clock = runs[plan]
    found = learn.evaluate(model, bundle.test)
    row = {
        "variant": name,
        "seed": seed,
        "plan": plan,
        "accuracy": found.accuracy,
        "validation_accuracy": scores[plan],
        "firing_rate": found.firing_rate,
        "layer_rates": list(found.layer_rates.values()),
        "epoch_cpu_s": statistics.median(clock.epochs),
        "stored_bytes": stored_bytes(model, bundle, plans[plan].batch_size),
        "parameters": sum(p.numel() for p in model.parameters()),
        "neuron_parameters": sum(
            p.numel() for m in model.modules() if isinstance(m, Neuron) for p in m.parameters() if p.requires_grad
        ),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    study.add(result, path, row)


def trained(
    config: StagesConfig, bundle: DataBundle, neuron: Factory, seed: int, plan: TrainConfig
) -> tuple[nn.Module, Clock]:
    own = dataclasses.replace(config, model=config.model | {"neuron": neuron}, seed=seed)
    model, clock, masks = recipes.build_model(own, bundle.spec), Clock(), mask_schedule(plan.epochs)

    def on_epoch(network: nn.Module, progress: float) -> None:
        masks(network, progress)
        clock.epoch(network, progress)

    study.train(model, bundle, plan, seed, MeanLogits(), on_epoch=on_epoch, on_step=clock.step)
    return model, clock


def stored_bytes(model: nn.Module, bundle: DataBundle, batch_size: int) -> int:
    """Bytes that one training step keeps for its backward pass: every tensor of autograd once, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = to_model_input(bundle.train.inputs[:batch_size], torch.device("cpu"))
    labels = torch.from_numpy(bundle.train.labels[:batch_size])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = MeanLogits()(model.train()(batch), labels, [])  # holds what was packed, so no address is used twice
    total = sum(size for address, size in kept.items() if address not in own)
    del loss
    return total


if __name__ == "__main__":
    main()
