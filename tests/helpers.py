"""What the tests share: tolerances, small models and awkward parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.compress import DynamicTanhMembrane, FrozenTanhMembrane, PowerOfTwoMembrane
from bitspike.data import DataBundle, DataSpec
from bitspike.layers import SpikingUnit, Synapse
from bitspike.models import MODELS, create_model
from bitspike.models.former import former_neuron

TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}

GENERIC_MODEL = {"num_classes": 5, "T": 3, "input_shape": (2, 9, 8), "zero_point": (100, 7), "input_scale": 0.01}
SMALL_MODELS: dict[str, dict[str, Any]] = {  # what each model needs beyond GENERIC_MODEL to be small
    "resnet19": {"width": 4, "blocks": (1, 2)},
    "resnet18": {"width": 4, "blocks": (1, 1), "input_shape": (2, 17, 15)},
    "sei_resnet": {"width": 4, "units": (1, 2), "input_shape": (2, 10, 6)},  # whole windows where it averages
    "sei_resnet_spike": {"width": 4, "units": (1, 2)},
    "resnet20": {"width": 3, "blocks": (1, 2)},
    "sequential": {"channels": 4, "hidden": 6, "input_shape": (2, 9, 1)},
    "sequential_strided": {"channels": 8, "hidden": 12, "input_shape": (2, 9, 1)},
    "vggsnn": {"widths": (4, "P", 6, 5, "P")},
    "vgg16": {"widths": (4, "M", 6, 5, "A")},
    "spikformer": {"dim": 16, "depth": 2, "heads": 2, "patch": 2, "mlp_ratio": 2, "input_shape": (2, 15, 11)},
    "spikingformer": {"dim": 16, "depth": 2, "heads": 2, "patch": 2, "mlp_ratio": 2, "input_shape": (2, 15, 11)},
    "bestformer": {
        "dim": 16,
        "depth": 2,
        "heads": 2,
        "patch": 2,
        "mlp_ratio": 2,
        "input_shape": (2, 15, 11),
        "neuron": partial(former_neuron, threshold=0.5),  # a map of few channels needs many spikes to have any
    },
    "snnvit": {"dim": 16, "depth": 2, "heads": 2, "patch": 2, "mlp_ratio": 2, "input_shape": (2, 15, 11)},
    "qkformer": {"dim": 24, "depths": (1, 1, 1), "heads": 3, "mlp_ratio": 2, "input_shape": (2, 17, 15)},
}


def close(actual: Tensor, expected: Tensor, scale: float = 1.0) -> None:
    """Equality within the tolerance of the less precise dtype."""
    worst = max(TOLERANCES[actual.dtype], TOLERANCES[expected.dtype]) * scale
    torch.testing.assert_close(actual.double(), expected.double(), rtol=worst, atol=worst)


def small_options(name: str) -> dict[str, Any]:
    """Options of a small version of model ``name``; also for a model that SMALL_MODELS does not know."""
    accepted = inspect.signature(MODELS[name]).parameters
    options = GENERIC_MODEL | SMALL_MODELS.get(name, {})
    return {key: value for key, value in options.items() if key in accepted}


def small_model(name: str, seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return disturb(create_model(name, **small_options(name) | options))


def images(n: int, shape: Iterable[int], seed: int = 0) -> Tensor:
    """u8 samples (n, *shape), the extreme values included."""
    values = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    values.flat[:2] = 0, 255
    return torch.from_numpy(values)


def small_images(name: str, n: int, seed: int = 0) -> Tensor:
    return images(n, small_options(name)["input_shape"], seed)


def disturb(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm the statistics and parameters of a network that has lived, so that neurons do fire."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            n = module.num_features
            module.running_mean.copy_(0.3 * torch.randn(n, generator=generator))
            module.running_var.copy_(0.2 + torch.rand(n, generator=generator))
            module.weight.data.copy_(0.5 + torch.rand(n, generator=generator))
            module.bias.data.copy_(0.4 + 0.5 * torch.randn(n, generator=generator))
    return model


def calibrate(model: nn.Module, samples: Tensor, passes: int = 8) -> nn.Module:
    """Set running statistics from data; leaves the model in evaluation mode."""
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    model.train()
    with torch.no_grad():
        for position in range(passes):
            for norm in momenta:
                norm.momentum = 1.0 if position < passes // 2 else 0.3
            model(samples)
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    return model.eval()


def digits_net(spec: DataSpec, widths: tuple[int | str, ...] = (6, "P", 8), T: int = 2, **options: Any) -> nn.Module:
    """A small VGGSNN for the digits data."""
    return create_model(
        "vggsnn",
        num_classes=spec.num_classes,
        T=T,
        input_shape=spec.shape,
        widths=widths,
        zero_point=spec.zero_point,
        input_scale=spec.scale,
        **options,
    )


def subset(bundle: DataBundle, train: int, rest: int) -> DataBundle:
    take = [
        split.take(np.arange(min(n, len(split))))
        for split, n in ((bundle.train, train), (bundle.validation, rest), (bundle.test, rest))
    ]
    return DataBundle(bundle.spec, *take)


def has_integer_form(name: str) -> bool:
    """Whether no module of model ``name`` says that it has none; the others are refused by lowering and pruning."""
    return not any(hasattr(module, "no_integer_form") for module in small_model(name).modules())


def has_removable_channels(name: str) -> bool:
    """Whether model ``name`` is made of SpikingUnits alone; the others are refused by structural pruning."""
    model = small_model(name)
    inside = {id(m) for unit in model.modules() if isinstance(unit, SpikingUnit) for m in unit.modules()}
    return has_integer_form(name) and all(id(synapse) in inside for synapse in synapses(model))


def synapses(model: nn.Module) -> list[Synapse]:
    return [m for m in model.modules() if isinstance(m, Synapse)]


def logits_of(model: nn.Module, samples: Tensor) -> Tensor:
    with torch.no_grad():
        return model(samples)


MEMBRANES: dict[str, Callable[[], nn.Module | None]] = {
    "full": lambda: None,
    "dynamic-tanh4": lambda: DynamicTanhMembrane(4),
    "frozen-tanh3": lambda: FrozenTanhMembrane(3, 0.9),
    "pow2-2": lambda: PowerOfTwoMembrane.covering(2, 1.0),
    "pow2-5": lambda: PowerOfTwoMembrane.covering(5, 1.0),
}
