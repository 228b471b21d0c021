"""``bitspike demo``: the main job, end to end, on data that comes with the installation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BitspikeError, ConfigError
from .output import JSON_OPTION_HELP, note
from .runs import show_result

__all__ = ["register", "write_web_page"]

DEFAULT_DIRECTORY = Path("runs") / "demo"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(demo)


def demo(
    as_json: Annotated[bool, typer.Option("--json", help=JSON_OPTION_HELP)] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for the run; an earlier demo in it is replaced.")
    ] = DEFAULT_DIRECTORY,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and augmentation.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads (0: as many as torch chooses).")] = 0,
) -> None:
    """The main job, end to end, on real handwritten digits.

    A full-precision baseline, then Q-SNN with 1-bit weights and 4-bit membranes, exact fine-tuning, export, the native
    engine over the whole test set, the proof that every spike and logit agrees, and a report. About a minute, offline.
    """
    from .. import recipes
    from .runs import set_threads

    if out.exists() and any(out.iterdir()):
        if not (out / "config.json").exists():
            raise ConfigError(f"{out} holds other files; choose an empty folder with --out")
        shutil.rmtree(out)
    set_threads(threads)
    config = recipes.load_config("q-snn", "digits", [f"seed={seed}"])
    note("bitspike demo: a 1-bit spiking network on 1,797 scans of handwritten digits")
    result = recipes.get_recipe("q-snn").run(config, out, latency_budget_s=6.0)
    show_result(result, out, as_json)
    write_web_page(out)


def write_web_page(run: Path) -> None:
    """The network as a page for the browser, where the tools for it are installed; one line says what came of it."""
    from .page import write_run_page

    try:
        write_run_page(run / "model.bspk", run / "page.html", None)
    except BitspikeError as error:
        note(f"no web page: {error}")
    else:
        note(f"web page: {run / 'page.html'} (draw a digit; works offline)")
