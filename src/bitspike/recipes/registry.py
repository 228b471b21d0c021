"""Names of the recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError

__all__ = ["Recipe", "get_recipe", "list_recipes", "register_recipe"]

RunFunction = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Recipe:
    """``run(config, directory, resume=...)`` trains, measures and ships; ``config_type`` is its frozen dataclass."""

    name: str
    summary: str
    config_type: type
    run: RunFunction


_RECIPES: dict[str, Recipe] = {}


def register_recipe(name: str, summary: str, config_type: type) -> Callable[[RunFunction], RunFunction]:
    """Decorator for a recipe's run function (config, directory: Path, *, resume: bool) -> result."""

    def register(run: RunFunction) -> RunFunction:
        _RECIPES[name] = Recipe(name, summary, config_type, run)
        return run

    return register


def list_recipes() -> list[Recipe]:
    """All recipes, by name."""
    return [_RECIPES[name] for name in sorted(_RECIPES)]


def get_recipe(name: str) -> Recipe:
    """The recipe called ``name``; ConfigError listing the accepted names."""
    if name not in _RECIPES:
        raise ConfigError(f"unknown recipe {name!r}, accepted: {', '.join(sorted(_RECIPES))}")
    return _RECIPES[name]


def default_directory(recipe: str, data: str, seed: int) -> Path:
    """Where a run goes when no directory is given: runs/RECIPE-DATA-seedN."""
    return Path("runs") / f"{recipe}-{data}-seed{seed}"
