"""Method configurations: plain data that names its type and version, and the handler each type has."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor, nn

from ..errors import ConfigError
from ..options import build

__all__ = [
    "CompressionConfig",
    "Trait",
    "applied",
    "apply",
    "config_from_json",
    "config_to_json",
    "list_configs",
    "register_config",
]


class CompressionConfig(Protocol):
    """A frozen dataclass of JSON values; registered together with its handler."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


class Trait(Enum):
    """What a method does to a model, as far as other methods must know."""

    QUANTIZES_WEIGHTS = "quantizes the weights"
    HAS_NO_ZERO_WEIGHT = "has no zero among its weight levels"
    QUANTIZES_MEMBRANES = "quantizes the membranes"
    SPARSIFIES_WEIGHTS = "sets single weights to zero"
    REMOVES_CHANNELS = "removes channels"


# (of a method applied before, of the method applied now) -> why the two cannot be combined in this order
CONFLICTS = {
    (Trait.QUANTIZES_WEIGHTS, Trait.QUANTIZES_WEIGHTS): "a weight carries one quantizer",
    (Trait.QUANTIZES_MEMBRANES, Trait.QUANTIZES_MEMBRANES): "a membrane carries one quantizer",
    (Trait.SPARSIFIES_WEIGHTS, Trait.HAS_NO_ZERO_WEIGHT): "weights set to zero would come back as other levels",
    (Trait.SPARSIFIES_WEIGHTS, Trait.SPARSIFIES_WEIGHTS): "the weights already have a threshold",
    (Trait.QUANTIZES_WEIGHTS, Trait.SPARSIFIES_WEIGHTS): "the threshold acts on real weights; apply it first",
}

C = TypeVar("C")
Calibration = Sequence[Tensor]
Handler = Callable[[nn.Module, Any, Calibration], Any]
Traits = Callable[[Any], frozenset[Trait]]

_HANDLERS: dict[type, Handler] = {}  # config type -> what it does to a model
_TRAITS: dict[type, Traits] = {}
_TYPES: dict[str, tuple[type, int]] = {}  # name in JSON -> (config type, version it is written with)


def register_config(
    config_type: type[C], version: int, traits: Callable[[C], frozenset[Trait]]
) -> Callable[[Callable[[nn.Module, C, Calibration], None]], Handler]:
    """Decorator for a handler (model, config, calibration): makes ``config_type`` known to ``apply`` and to JSON.

    In JSON it goes by its class name and ``version``; ``traits`` says what a configuration of it does.
    """

    def register(handler: Callable[[nn.Module, C, Calibration], None]) -> Handler:
        _HANDLERS[config_type] = handler
        _TRAITS[config_type] = traits
        _TYPES[config_type.__name__] = (config_type, version)
        return handler

    return register


def list_configs() -> list[str]:
    """Names of the registered configurations."""
    return sorted(_TYPES)


def apply(model: nn.Module, config: CompressionConfig, *, calibration: Calibration = ()) -> nn.Module:
    """Attach the method to ``model`` in place, and return it.

    calibration: batches of training samples (N, C, H, W), or (T, N, C, H, W), for methods that measure the model.
    Raises ConfigError for an unregistered config, for missing calibration, and for a method that cannot be combined
    with those applied before; the model is then unchanged.
    """
    handler = _HANDLERS.get(type(config))
    if handler is None:
        raise ConfigError(f"no handler for {type(config).__name__}, accepted: {', '.join(list_configs())}")
    _refuse_conflicts(model, config)
    handler(model, config, calibration)
    model.__dict__["compression"] = (*applied(model), config)
    return model


def applied(model: nn.Module) -> tuple[CompressionConfig, ...]:
    """The configurations applied to ``model``, in order."""
    return tuple(model.__dict__.get("compression", ()))


def _refuse_conflicts(model: nn.Module, config: CompressionConfig) -> None:
    name = type(config).__name__
    for before in applied(model):
        did, does = _TRAITS[type(before)](before), _TRAITS[type(config)](config)
        for (had, has), reason in CONFLICTS.items():
            if had in did and has in does:
                raise ConfigError(
                    f"{name} {has.value}, and {type(before).__name__}, applied before, {had.value}: {reason}"
                )


def config_to_json(config: CompressionConfig) -> str:
    """{"type": ..., "version": ..., fields}; read back by :func:`config_from_json`."""
    if type(config) not in _HANDLERS:
        raise ConfigError(
            f"{type(config).__name__} is not a registered configuration, accepted: {', '.join(list_configs())}"
        )
    _, version = _TYPES[type(config).__name__]
    return json.dumps({"type": type(config).__name__, "version": version} | dataclasses.asdict(config), sort_keys=True)


def config_from_json(text: str) -> CompressionConfig:
    """The configuration in ``text``. Raises ConfigError naming a bad type, version, key or value."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"the configuration is a JSON {type(data).__name__}, accepted: an object")
    name, version = data.pop("type", None), data.pop("version", None)
    if not isinstance(name, str) or name not in _TYPES:
        raise ConfigError(f"configuration type {name!r} is unknown, accepted: {', '.join(list_configs())}")
    config_type, current = _TYPES[name]
    if type(version) is not int or version != current:
        raise ConfigError(f"{name} version {version!r} is unknown, accepted: {current}")
    config: CompressionConfig = build(config_type, data, name)
    return config
