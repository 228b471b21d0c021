"""One file per published system: compositions of the other packages, runnable by one command."""

from . import qsnn
from .configs import load_config, shipped_configs
from .registry import Recipe, get_recipe, list_recipes, register_recipe
from .run import RunDirectory

__all__ = [
    "Recipe",
    "RunDirectory",
    "get_recipe",
    "list_recipes",
    "load_config",
    "qsnn",
    "register_recipe",
    "shipped_configs",
]
