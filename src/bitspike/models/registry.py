"""Names of the models and how to build one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from ..errors import ConfigError
from ..neurons import named_neuron

__all__ = ["MODELS", "create_model", "list_models", "register_model"]

Builder = Callable[..., nn.Module]
F = TypeVar("F", bound=Builder)

MODELS: dict[str, Builder] = {}  # entry point name -> builder


def register_model(builder: F) -> F:
    """Decorator for an entry point; its function name is the model's name."""
    MODELS[builder.__name__] = builder
    return builder


def list_models(contains: str = "") -> list[str]:
    """Registered names that contain ``contains``, sorted."""
    return sorted(name for name in MODELS if contains in name)


def create_model(name: str, **options: Any) -> nn.Module:
    """Build model ``name``; options are those of its entry point (``num_classes``, ``T``, ``input_shape``, ...).

    ``neuron`` may be a name too, or an object with a name and options, see ``neurons.named_neuron``.
    Raises ConfigError for an unknown name or option, listing the accepted ones.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(f"unknown model {name!r}{hint}, accepted: {', '.join(list_models())}")
    builder = MODELS[name]
    accepted = inspect.signature(builder).parameters
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise ConfigError(f"model {name!r} has no option {', '.join(unknown)}, accepted: {', '.join(accepted)}")
    neuron = options.get("neuron")
    if isinstance(neuron, str | Mapping):
        options["neuron"] = named_neuron(neuron, options.get("T", accepted["T"].default))
    return builder(**options)
