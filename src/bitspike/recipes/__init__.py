"""One file per published system: compositions of the other packages, runnable by one command."""

from . import qsnn, stages
from .configs import load_config, shipped_configs
from .registry import Recipe, get_recipe, list_recipes, register_recipe
from .run import RunDirectory
from .setup import build_model, load_data
from .ship import compile_for, restore

__all__ = [
    "Recipe",
    "RunDirectory",
    "build_model",
    "compile_for",
    "get_recipe",
    "list_recipes",
    "load_config",
    "load_data",
    "qsnn",
    "register_recipe",
    "restore",
    "shipped_configs",
    "stages",
]
