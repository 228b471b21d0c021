"""Entry point: the commands together, errors as one line, exit status 0, 1 (failed) or 2 (bad input)."""

from __future__ import annotations

import os
import sys

import typer

from ..errors import BitspikeError
from . import artifact, compress, demo, listing, runs

__all__ = ["app", "main"]

app = typer.Typer(
    name="bitspike",
    help=(
        "Train, compress, measure and deploy low-bit spiking neural networks.\n\n"
        "Start with 'bitspike demo': in about a minute it trains a 1-bit network on real handwritten digits, ships it as "
        "a file of a few kB and proves that the native engine computes exactly what was trained."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for module in (demo, listing, runs, compress, artifact):
    module.register(app)


def main() -> None:
    """Run the command line; never shows a traceback for bad input."""
    try:
        app()
    except BitspikeError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted; continue a training run with --resume", 130)
    except BrokenPipeError:  # the reader of our output went away, as in `bitspike list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), 1)


def _fail(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
