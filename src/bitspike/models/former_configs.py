"""The published spiking transformers as options of ``create_model``: sizes of the papers' tables, heads of their code.

Spikformer (arXiv 2209.15425), Spikingformer (arXiv 2304.11954), QKFormer (arXiv 2403.16552), BESTformer (arXiv
2501.05904, before its weights are binarised). With CML downsampling the first two are the networks of arXiv 2305.05954:
``published_former(name, downsampling="currents")``.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from ..errors import ConfigError
from .former import attention_neuron, former_neuron
from .registry import create_model

__all__ = ["PUBLISHED_FORMERS", "published_former"]

Options = dict[str, Any]

CIFAR10: Options = {"num_classes": 10, "input_shape": (3, 32, 32), "T": 4}
CIFAR100: Options = CIFAR10 | {"num_classes": 100}
IMAGENET: Options = {"num_classes": 1000, "input_shape": (3, 224, 224), "T": 4}
EVENTS: Options = {"input_shape": (2, 128, 128), "T": 16}
FAST_NEURONS: Options = {  # tau 1.5
    "neuron": functools.partial(former_neuron, 1 / 3),
    "attention_neuron": functools.partial(attention_neuron, 1 / 3),
}
EVENT_SETS = {"cifar10-dvs": 10, "dvs128": 11}  # data set -> classes
SIZES = ((4, 256), (2, 384), (4, 384))  # depth, dim


def _flat(model: str) -> dict[str, tuple[str, Options]]:
    """The configurations of Spikformer and Spikingformer, which are the same."""
    tables: dict[str, Options] = {}
    for depth, dim in SIZES:
        size = {"depth": depth, "dim": dim, "patch": 4}
        # 12 heads do not divide 256 channels; our reading there is 8, as for CIFAR-100.
        tables[f"cifar10-{depth}-{dim}"] = CIFAR10 | size | {"heads": 12 if dim == 384 else 8}
        tables[f"cifar100-{depth}-{dim}"] = CIFAR100 | size | {"heads": 8}
    for data, classes in EVENT_SETS.items():
        size = {"depth": 2, "dim": 256, "heads": 16, "patch": 16}
        tables[f"{data}-2-256"] = EVENTS | FAST_NEURONS | size | {"num_classes": classes}
    for dim in (384, 512, 768):
        tables[f"imagenet-8-{dim}"] = IMAGENET | {"depth": 8, "dim": dim, "heads": 8, "patch": 16}
    return {f"{model}-{name}": (model, options) for name, options in tables.items()}


def _hierarchical() -> dict[str, tuple[str, Options]]:
    three = {"depths": (1, 1, 2), "dim": 384, "heads": 8, "embedding": "cifar"}
    two = {"depths": (1, 1), "dim": 256, "heads": 16, "mixers": ("token", "self"), "embedding": "events"}
    tables: dict[str, Options] = {"cifar10": CIFAR10 | three, "cifar100": CIFAR100 | three}
    for data, classes in EVENT_SETS.items():
        tables[data] = EVENTS | two | {"num_classes": classes, "mlp_ratio": 1}
    for dim, heads in ((384, 6), (512, 8), (768, 12)):
        size = {"depths": (1, 2, 7), "dim": dim, "heads": heads, "embedding": "imagenet"}
        tables[f"imagenet-10-{dim}"] = IMAGENET | size
    return {f"qkformer-{name}": ("qkformer", options) for name, options in tables.items()}


def _binary() -> dict[str, tuple[str, Options]]:
    """BESTformer; its released code puts the map between tokens for CIFAR, between channels for ImageNet."""
    cifar = {"depth": 4, "dim": 384, "heads": 8, "patch": 4, "attention_map": "tokens"}
    imagenet = {"depth": 8, "dim": 512, "heads": 8, "patch": 16, "attention_map": "channels"}
    tables = {
        "cifar10-4-384": CIFAR10 | cifar,
        "cifar100-4-384": CIFAR100 | cifar,
        "imagenet-8-512": IMAGENET | imagenet,
    }
    return {f"bestformer-{name}": ("bestformer", options) for name, options in tables.items()}


# name -> (model, its options)
PUBLISHED_FORMERS: dict[str, tuple[str, Options]] = (
    _flat("spikformer") | _flat("spikingformer") | _hierarchical() | _binary()
)


def published_former(name: str, **options: Any) -> nn.Module:
    """Build a network of :data:`PUBLISHED_FORMERS`; ``options`` replace its own. ConfigError for an unknown name."""
    if name not in PUBLISHED_FORMERS:
        raise ConfigError(f"published former is {name!r}, accepted: {', '.join(PUBLISHED_FORMERS)}")
    model, published = PUBLISHED_FORMERS[name]
    return create_model(model, **published | options)
