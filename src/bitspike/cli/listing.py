"""``bitspike list``: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ConfigError
from .output import JSON_OPTION_HELP, print_json, print_table

__all__ = ["register"]

KINDS = ("models", "recipes", "neurons", "datasets", "configs", "targets")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(name="list")(list_things)


def list_things(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help=f"One of: {', '.join(KINDS)}. Without it, all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_OPTION_HELP)] = False,
) -> None:
    """List models, recipes, data sets, configurations, targets."""
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"cannot list {kind!r}, accepted: {', '.join(KINDS)}")
    found = {name: _collect(name) for name in ([kind] if kind else KINDS)}
    if as_json:
        print_json({name: [row[0] for row in rows] for name, rows in found.items()})
        return
    for name, rows in found.items():
        print_table(name, ("name", "what it is"), rows)


def _collect(kind: str) -> list[tuple[str, str]]:
    from .. import data, models, neurons, recipes
    from .runs import EXPORT_TARGETS

    match kind:
        case "models":
            return [(name, _first_line(models.MODELS[name])) for name in models.list_models()]
        case "recipes":
            return [(recipe.name, recipe.summary) for recipe in recipes.list_recipes()]
        case "neurons":
            return [(name, _first_line(cls)) for name, cls in sorted(neurons.NEURONS.items())]
        case "datasets":
            return [(name, "train and test, official format") for name in data.list_datasets()]
        case "configs":
            return [
                (f"{recipe.name}/{name}", f"bitspike train {recipe.name} --config {name}")
                for recipe in recipes.list_recipes()
                for name in recipes.shipped_configs(recipe.name)
            ]
        case _:
            return [(name, "bitspike export RUN --to " + name) for name in EXPORT_TARGETS]


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]
