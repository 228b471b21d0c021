"""Building the text of one C file: lines with indentation, tables, and the scratch sizes that functions ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .tables import WIDTHS, Table, narrowest

__all__ = ["Code", "Source", "signed", "unsigned"]


class Code:
    """Lines of C; ``with code.block("for (...)"):`` indents and closes a brace."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str = "") -> None:
        self.lines.append("    " * self.depth + line if line else "")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self(f"{head} {{")
        self.depth += 1
        yield
        self.depth -= 1
        self("}")

    @contextmanager
    def function(self, head: str) -> Iterator[None]:
        self(head)
        self("{")
        self.depth += 1
        yield
        self.depth -= 1
        self("}")
        self()

    @contextmanager
    def loop(self, variable: str, count: int) -> Iterator[None]:
        """``variable`` from 0 to ``count`` - 1; a loop of one turn is none."""
        if count == 1:
            self(f"{variable} = 0;")
            yield
            return
        with self.block(f"for ({variable} = 0; {variable} < {count}u; {variable}++)"):
            yield

    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass
class Source:
    """What the emitted functions need besides their own text."""

    code: Code = field(default_factory=Code)
    weights: list[Table] = field(default_factory=list)
    parameters: list[Table] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)
    list_entries: int = 0
    largest_entry: int = 0
    plane_words: int = 0
    function_bytes: int = 0  # of static arrays inside functions
    current_bytes: list[int] = field(default_factory=lambda: [0] * 4)
    unpackers: dict[str, str] = field(default_factory=dict)

    def call(self, *names: str) -> None:
        """Functions of helpers.py that the text calls."""
        self.helpers.update(names)

    def reserve_current(self, slot: int, values: int, ctype: str) -> None:
        """Room for ``values`` numbers in one of the arrays of currents."""
        self.current_bytes[slot] = max(self.current_bytes[slot], values * WIDTHS[ctype])

    def weight(self, name: str, ctype: str, values: NDArray[np.int64]) -> str:
        self.weights.append(Table(name, ctype, values.reshape(-1)))
        return name

    def parameter(self, name: str, values: Sequence[int] | NDArray[np.integer], index: str) -> str:
        """C expression for a per-channel value: a literal where all are equal, else a table's element."""
        array = np.asarray(values).astype(np.int64).reshape(-1)
        if (array == array[0]).all():
            return signed(int(array[0]))
        self.parameters.append(Table(name, narrowest(array), array))
        return f"{name}[{index}]"


def signed(value: int) -> str:
    """A literal of int32_t."""
    return "(-2147483647 - 1)" if value == -(2**31) else f"({value})" if value < 0 else str(value)


def unsigned(expression: str) -> str:
    """``expression`` modulo 2^32; a literal stays one."""
    try:
        value = int(expression.strip("()"))
    except ValueError:
        return f"(uint32_t){expression}"
    return f"{value & 0xFFFFFFFF}u"
