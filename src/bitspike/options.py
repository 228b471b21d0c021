"""Dataclasses from plain JSON values, with one clear error for a wrong key, type or value."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from .errors import ConfigError

__all__ = ["build", "override"]

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """``cls(**values)`` for a dataclass of JSON values (nested dataclasses too); lists become tuples where declared.

    Raises ConfigError naming ``where``, the key, the value and what is accepted.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {values!r}, accepted: an object")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"{where} has no key {', '.join(unknown)}, accepted: {', '.join(fields)}")
    hints = typing.get_type_hints(cls)
    converted = {key: _convert(value, hints[key], f"{where}.{key}") for key, value in values.items()}
    missing = [
        f.name
        for f in fields.values()
        if f.name not in converted and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where} needs {', '.join(missing)}")
    return cls(**converted)


def override(values: dict[str, Any], assignment: str) -> None:
    """Apply ``a.b=value`` to nested dictionaries in place, ``a.0.b=value`` through a list; the value is JSON, or text."""
    import json

    path, separator, text = assignment.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set {assignment!r} is not of the form key=value")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    *parents, last = path.split(".")
    holder: Any = values
    for key in parents:
        if isinstance(holder, dict):
            holder = holder.setdefault(key, {})
        else:
            holder = holder[_index(holder, key, path)]
        if not isinstance(holder, dict | list):
            raise ConfigError(f"--set {path}: {key!r} is a value, it holds no further keys")
    holder[last if isinstance(holder, dict) else _index(holder, last, path)] = value


def _index(items: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise ConfigError(f"--set {path}: {key!r} is no position in a list of {len(items)}, accepted: from 0")
    return int(key)


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        described = [option for option in arguments if dataclasses.is_dataclass(option)]
        if isinstance(value, dict) and len(described) == 1 and dict not in [typing.get_origin(o) for o in arguments]:
            return _convert(value, described[0], where)  # its own message says more than that no option fits
        for option in arguments:
            try:
                return _convert(value, option, where)
            except ConfigError:
                continue
        raise _wrong(value, hint, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(value, hint, where)
        return tuple(_convert(v, arguments[0], f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict or hint in (Any, dict):
        if hint is not Any and not isinstance(value, dict):
            raise _wrong(value, hint, where)
        return {k: _convert(v, arguments[1], f"{where}.{k}") for k, v in value.items()} if arguments else value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, typing.cast(type, hint)) else build(typing.cast(type, hint), value, where)
    if hint is types.NoneType:
        if value is not None:
            raise _wrong(value, hint, where)
        return None
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise _wrong(value, hint, where)


def _wrong(value: Any, hint: Any, where: str) -> ConfigError:
    name = getattr(hint, "__name__", None) if not typing.get_args(hint) else None
    return ConfigError(f"{where} is {value!r}, accepted: {name or hint}")
