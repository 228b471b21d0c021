"""Mixed bits against uniform bits at equal file size, on real data.

    python benchmarks/bit_allocation.py --seeds 0 1 2 --json results/compress/bits-digits.json

A full-precision network is quantized to one width everywhere, and to the mix that the allocator chooses for a file no larger
than that; both train for the same few epochs from the same weights. Accuracies are of the test set by the engine on the
compiled artifact, read once per network; nothing is chosen by them.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import study
from study import train
from torch import nn

from bitspike import deploy, engine, recipes
from bitspike.compress import MixedBits, apply
from bitspike.compress.mixed import weight_layers
from bitspike.data import DataBundle
from bitspike.learn import TrainConfig
from bitspike.recipes.bits import BitBudget, choose_bits
from bitspike.recipes.setup import calibration_batches

WIDTHS = (1, 2, 3, 4)
FULL = TrainConfig(epochs=20, batch_size=64, learning_rate=0.05, warmup_epochs=2, augment=("crop1",))
SHORT = dataclasses.replace(FULL, epochs=8, learning_rate=0.02, warmup_epochs=0.0)


def main() -> None:
    options = study.parser(__doc__).parse_args()
    config = recipes.load_config("qp-snn", "digits")
    bundle = recipes.load_data(config)
    plans = {"full_precision_plan": dataclasses.asdict(FULL), "quantized_plan": dataclasses.asdict(SHORT)}
    result = study.begin(model=config.model, **plans)

    def add(variant: str, seed: int, model: nn.Module, **more: Any) -> int:
        row = {"variant": variant, "seed": seed} | figures(model, bundle) | more
        study.add(result, options.json, row)
        return int(row["artifact_bytes"])

    for seed in options.seeds:
        full = recipes.build_model(dataclasses.replace(config, seed=seed), bundle.spec)
        train(full, bundle, FULL, seed)
        calibration = calibration_batches(bundle.train, 5, 128, seed)
        for bits in WIDTHS:
            uniform = MixedBits(dict.fromkeys(weight_layers(full), bits))
            size = len(compiled(apply(copy.deepcopy(full), uniform), bundle))
            add(f"{bits} bits everywhere", seed, trained(full, uniform, bundle, seed))
            # the allocator leaves room for what training widens: ask for as much more, the file is then no larger
            mixed, record = choose_bits(
                full,
                BitBudget(str(math.ceil(size / 0.98))),
                calibration,
                bundle.validation,
                lambda model: compiled(model, bundle),
            )
            search = {"chosen": mixed.bits, "search_s": record["seconds"], "forward_passes": record["forward_passes"]}
            add(f"mixed, file of {bits} bits", seed, trained(full, mixed, bundle, seed), **search)


def trained(full: nn.Module, method: MixedBits, bundle: DataBundle, seed: int) -> nn.Module:
    return train(apply(copy.deepcopy(full), method), bundle, SHORT, seed + 1)


def compiled(model: nn.Module, bundle: DataBundle) -> bytes:
    exact = deploy.exact_model(model).eval()
    return deploy.compile(exact, bundle.validation.inputs[:64]).to_bytes()


def figures(model: nn.Module, bundle: DataBundle) -> dict[str, Any]:
    data = compiled(model, bundle)
    logits = engine.load(data).run(bundle.test.inputs)
    return {
        "accuracy": float((logits.argmax(-1) == bundle.test.labels).mean()),
        "artifact_bytes": len(data),
    }


if __name__ == "__main__":
    main()
