"""How commands speak: results on stdout, notes on stderr, JSON as the last line when asked."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["JSON_OPTION_HELP", "note", "print_json", "print_table"]

JSON_OPTION_HELP = "Print the answer as one JSON object on the last line of stdout."


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout; numbers are aligned right."""
    table = Table()
    for position, name in enumerate(header):
        numeric = bool(rows) and all(_is_figure(row[position]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console()
    if not console.is_terminal:  # a file or pipe has no width of its own
        console = Console(width=120)
    console.print(title, highlight=False, soft_wrap=True)
    console.print(table)


def print_json(value: Any) -> None:
    """One line of strict JSON: numbers that JSON cannot hold become null."""
    print(json.dumps(_strict(value)), flush=True)


def note(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is_figure(cell: object) -> bool:
    text = str(cell).strip()
    return not text or text[0].isdigit() or (text[0] in "-+–" and (len(text) == 1 or text[1].isdigit()))
