"""Method configurations: plain data that names its type and version, and the handler each type has."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

from ..errors import ConfigError
from ..options import build

__all__ = ["CompressionConfig", "apply", "config_from_json", "config_to_json", "list_configs", "register_config"]


class CompressionConfig(Protocol):
    """A frozen dataclass of JSON values; registered together with its handler."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


C = TypeVar("C")
Handler = Callable[[nn.Module, Any], None]

_HANDLERS: dict[type, Handler] = {}  # config type -> what it does to a model
_TYPES: dict[str, tuple[type, int]] = {}  # name in JSON -> (config type, version it is written with)


def register_config(config_type: type[C], version: int) -> Callable[[Callable[[nn.Module, C], None]], Handler]:
    """Decorator for a handler: makes ``config_type`` known to ``apply`` and to JSON under its class name."""

    def register(handler: Callable[[nn.Module, C], None]) -> Handler:
        _HANDLERS[config_type] = handler
        _TYPES[config_type.__name__] = (config_type, version)
        return handler

    return register


def list_configs() -> list[str]:
    """Names of the registered configurations."""
    return sorted(_TYPES)


def apply(model: nn.Module, config: CompressionConfig) -> nn.Module:
    """Attach the method to ``model`` in place, and return it. Raises ConfigError for an unregistered config."""
    handler = _HANDLERS.get(type(config))
    if handler is None:
        raise ConfigError(f"no handler for {type(config).__name__}, accepted: {', '.join(list_configs())}")
    handler(model, config)
    return model


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
