"""The ``compress`` command: a run's full-precision network, compressed into a new run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BitspikeError, ConfigError
from .runs import Json, Resume, Root, Run, Threads, set_threads, show_result

if TYPE_CHECKING:
    from ..compress import CompressionConfig

__all__ = ["register"]

STAGE = "compressed"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(compress)


def compress(
    run: Run,
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG.json]",
            help='Method, e.g. {"type": "QSNN", "version": 1}, or a list of methods in order. Left out with --budget.',
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Choose bits per layer within a budget: of the artifact, e.g. 100kB, or of one inference, e.g. 1.5ms."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new run (default: RUN-compressed).")] = None,
    data_root: Root = None,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting, e.g. stages.0.train.epochs=5 or exact.epochs=2; may be repeated. Values are JSON.",
        ),
    ] = [],  # noqa: B006 - typer needs a list
    resume: Resume = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Compress a run's full-precision network into a new run.

    Applies the methods, trains from the full-precision weights, fine-tunes on the deployed integers, ships and measures.
    With --budget, measures how much each layer's bits matter and chooses those that lose least.
    """
    from .. import recipes

    if config is None and budget is None:
        raise ConfigError("give a CONFIG.json, or a --budget such as 100kB or 1.5ms")
    methods = [] if config is None else read_methods(config)
    name, settings_of_run = recipes.RunDirectory(run).config()
    weights = recipes.RunDirectory(run).latest_weights("full-precision")
    recipe, values = _as_new_run(name, settings_of_run, methods, budget)
    changed = recipes.setup.with_root(recipes.configs.from_values(recipe, values, settings), data_root)
    set_threads(threads)
    directory = out or run.with_name(run.name + "-compressed")
    result = recipes.get_recipe(recipe).run(changed, directory, resume=resume, initial_weights=weights)
    show_result(result, directory, as_json)


def read_methods(path: Path) -> list[CompressionConfig]:
    """The method, or the list of methods, in a JSON file."""
    from .. import compress as methods

    try:
        found = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BitspikeError(f"{path} cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if found == []:
        raise ConfigError(f"{path} is an empty list, accepted: one method or more")
    return [methods.config_from_dict(one) for one in (found if isinstance(found, list) else [found])]


def _as_new_run(
    recipe: str, config: Any, methods: list[CompressionConfig], budget: str | None
) -> tuple[str, dict[str, Any]]:
    """(recipe, JSON values of its configuration) of the run that compresses a run of ``config``.

    A Q-SNN run stays one when Q-SNN is what is applied, with its regulation; all else is one stage of "compress".
    """
    from .. import compress, recipes

    if isinstance(config, recipes.qsnn.QSNNConfig):
        train, objective = config.train, "every-step"
        if budget is None and len(methods) == 1 and isinstance(methods[0], compress.QSNN):
            return recipe, dataclasses.asdict(config) | {"compress": dataclasses.asdict(methods[0]), "baseline": None}
    else:
        trained = next((stage for stage in reversed(config.stages) if stage.train is not None), config.stages[-1])
        train, objective = trained.train or config.exact, trained.objective
    stage = {
        "name": STAGE,
        "apply": [compress.config_to_dict(method) for method in methods],
        "train": None if train is None else dataclasses.asdict(train),
        "objective": objective,
        "bits": None if budget is None else {"budget": budget},
    }
    values = {key: value for key, value in dataclasses.asdict(config).items() if key in _SHARED}
    return "compress", values | {"stages": [stage]}


_SHARED = ("data", "model", "exact", "runtime", "seed", "calibration_batches", "calibration_size")
