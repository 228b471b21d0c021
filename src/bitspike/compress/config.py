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
    "config_from_dict",
    "config_from_json",
    "config_to_dict",
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
    FIXES_ZEROS = "holds weights at zero"
    REMOVES_CHANNELS = "removes channels"


# (of a method applied before, of the method applied now) -> why the two cannot be combined in this order
CONFLICTS = {
    (Trait.QUANTIZES_WEIGHTS, Trait.QUANTIZES_WEIGHTS): "a weight carries one quantizer",
    (Trait.QUANTIZES_MEMBRANES, Trait.QUANTIZES_MEMBRANES): "a membrane carries one quantizer",
    (Trait.SPARSIFIES_WEIGHTS, Trait.HAS_NO_ZERO_WEIGHT): "weights set to zero would come back as other levels",
    (Trait.FIXES_ZEROS, Trait.HAS_NO_ZERO_WEIGHT): "weights held at zero would come back as other levels",
    (Trait.HAS_NO_ZERO_WEIGHT, Trait.FIXES_ZEROS): "no quantized weight is zero",
    (Trait.SPARSIFIES_WEIGHTS, Trait.SPARSIFIES_WEIGHTS): "the weights already have a threshold",
    (Trait.QUANTIZES_WEIGHTS, Trait.SPARSIFIES_WEIGHTS): "the threshold acts on real weights; apply it first",
}

C = TypeVar("C")
Calibration = Sequence[Tensor]
Handler = Callable[[nn.Module, Any, Calibration], "CompressionConfig | None"]
Traits = Callable[[Any], frozenset[Trait]]


@dataclasses.dataclass(frozen=True)
class _Method:
    config_type: type
    version: int  # that JSON is written with
    traits: Traits
    handler: Handler


_METHODS: dict[str, _Method] = {}  # by the config type's name, as in JSON


def register_config(
    config_type: type[C], version: int, traits: Callable[[C], frozenset[Trait]]
) -> Callable[[Callable[[nn.Module, C, Calibration], CompressionConfig | None]], Handler]:
    """Decorator for a handler (model, config, calibration): makes ``config_type`` known to ``apply`` and to JSON.

    In JSON it goes by its class name and ``version``; ``traits`` says what a configuration of it does. A handler whose
    effect depends on the weights or on calibration returns the configuration that repeats it on a fresh model.
    """

    def register(handler: Callable[[nn.Module, C, Calibration], CompressionConfig | None]) -> Handler:
        _METHODS[config_type.__name__] = _Method(config_type, version, traits, handler)
        return handler

    return register


def list_configs() -> list[str]:
    """Names of the registered configurations."""
    return sorted(_METHODS)


def apply(model: nn.Module, config: CompressionConfig, *, calibration: Calibration = ()) -> nn.Module:
    """Attach the method to ``model`` in place, and return it.

    calibration: batches of training samples (N, C, H, W), or (T, N, C, H, W), for methods that measure the model.
    Raises ConfigError for an unregistered config, for missing calibration, and for a method that cannot be combined
    with those applied before; the model is then unchanged.
    """
    method = _method(config)
    _refuse_conflicts(model, config)
    repeatable = method.handler(model, config, calibration)
    model.__dict__["compression"] = (*applied(model), config if repeatable is None else repeatable)
    return model


def applied(model: nn.Module) -> tuple[CompressionConfig, ...]:
    """The configurations applied to ``model``, in order; applied to a fresh model they give the same structure."""
    return tuple(model.__dict__.get("compression", ()))


def _refuse_conflicts(model: nn.Module, config: CompressionConfig) -> None:
    name = type(config).__name__
    for before in applied(model):
        did, does = _method(before).traits(before), _method(config).traits(config)
        for (had, has), reason in CONFLICTS.items():
            if had in did and has in does:
                raise ConfigError(
                    f"{name} {has.value}, and {type(before).__name__}, applied before, {had.value}: {reason}"
                )


def _method(config: CompressionConfig) -> _Method:
    method = _METHODS.get(type(config).__name__)
    if method is None or method.config_type is not type(config):
        raise ConfigError(
            f"{type(config).__name__} is not a registered configuration, accepted: {', '.join(list_configs())}"
        )
    return method


def config_to_json(config: CompressionConfig) -> str:
    """{"type": ..., "version": ..., fields}; read back by :func:`config_from_json`."""
    return json.dumps(config_to_dict(config), sort_keys=True)


def config_to_dict(config: CompressionConfig) -> dict[str, Any]:
    """The JSON object of :func:`config_to_json`; read back by :func:`config_from_dict`."""
    head = {"type": type(config).__name__, "version": _method(config).version}
    return head | dataclasses.asdict(config)


def config_from_json(text: str) -> CompressionConfig:
    """The configuration in ``text``. Raises ConfigError naming a bad type, version, key or value."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from None
    return config_from_dict(data)


def config_from_dict(data: Any) -> CompressionConfig:
    """The configuration of a parsed JSON object. Raises ConfigError like :func:`config_from_json`."""
    if not isinstance(data, dict):
        raise ConfigError(f"the configuration is a JSON {type(data).__name__}, accepted: an object")
    values = dict(data)
    name, version = values.pop("type", None), values.pop("version", None)
    if not isinstance(name, str) or name not in _METHODS:
        raise ConfigError(f"configuration type {name!r} is unknown, accepted: {', '.join(list_configs())}")
    method = _METHODS[name]
    if type(version) is not int or version != method.version:
        raise ConfigError(f"{name} version {version!r} is unknown, accepted: {method.version}")
    config: CompressionConfig = build(method.config_type, values, name)
    return config
