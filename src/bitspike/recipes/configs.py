"""Shipped configurations: recipes/configs/RECIPE/NAME.json, NAME being a data set or a variant of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..options import build, override
from .registry import Recipe, get_recipe

__all__ = ["load_config", "shipped_configs"]


def shipped_configs(recipe: str) -> list[str]:
    """Names of the configurations shipped for ``recipe``; none for one that is all its user's choice."""
    folder = files(__package__) / "configs" / recipe
    if not folder.is_dir():
        return []
    return sorted(p.name.removesuffix(".json") for p in folder.iterdir() if p.name.endswith(".json"))


def load_config(recipe: str, name: str, settings: Sequence[str] = ()) -> Any:
    """The configuration ``name`` (shipped, or the path of a JSON file) with ``key=value`` settings applied."""
    return from_values(recipe, _read(get_recipe(recipe), name), settings)


def from_values(recipe: str, values: dict[str, Any], settings: Sequence[str] = ()) -> Any:
    """The recipe's config from JSON values, with ``key=value`` settings applied to them."""
    for assignment in settings:
        override(values, assignment)
    return config_from_dict(get_recipe(recipe), values)


def config_from_dict(recipe: Recipe, values: dict[str, Any]) -> Any:
    """The recipe's config from its JSON object; "recipe" and "version" in it are checked."""
    values = dict(values)
    named, version = values.pop("recipe", recipe.name), values.pop("version", 1)
    if named != recipe.name or version != 1:
        raise ConfigError(
            f"configuration is for recipe {named!r} version {version!r}, accepted: {recipe.name!r} version 1"
        )
    return build(recipe.config_type, values, recipe.name)


def _read(recipe: Recipe, name: str) -> dict[str, Any]:
    if name.endswith(".json"):
        try:
            text = Path(name).read_text()
        except OSError as error:
            raise ConfigError(f"configuration {name} cannot be read: {error.strerror}") from None
    else:
        accepted = shipped_configs(recipe.name)
        if name not in accepted:
            raise ConfigError(
                f"recipe {recipe.name!r} has no configuration {name!r}, accepted: {', '.join(accepted)}, or a .json file"
            )
        text = (files(__package__) / "configs" / recipe.name / f"{name}.json").read_text()
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"configuration {name} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"configuration {name} is a JSON {type(values).__name__}, accepted: an object")
    return values
