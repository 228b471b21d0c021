"""The .c and .h pair: everything put together, its size, and the refusal over a budget."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from .. import ir
from .code import Source
from .currents import current_function
from .helpers import CRC_TABLE_BYTES, EPILOGUE, PROLOGUE, needed
from .interface import header_text, interface, self_test_tables, title
from .neurons import membrane_type
from .nodes import node_function
from .plan import Footprint, Plan, make_plan
from .tables import WIDTHS
from .unpack import MERGE

__all__ = ["emit", "export", "footprint"]


def footprint(graph: ir.Graph, *, streaming: bool = False, test_samples: NDArray[np.uint8] | None = None) -> Footprint:
    """What :func:`export` with the same arguments would take of flash and RAM; nothing is written."""
    return emit(graph, "network", streaming=streaming, test_samples=test_samples)[2]


def export(
    graph: ir.Graph,
    path: str | os.PathLike[str],
    *,
    name: str,
    flash_budget: int | None = None,
    ram_budget: int | None = None,
    streaming: bool = False,
    test_samples: NDArray[np.uint8] | None = None,
) -> Footprint:
    """Write ``name``.c and ``name``.h into the folder ``path`` and return what they take of flash and RAM.

    ``streaming`` adds ``name_reset`` and ``name_step`` and keeps membranes between calls. The first of ``test_samples``
    uint8 (N, [T,] C, H, W) becomes the self-test; without any, a seeded random one. ConfigError, and nothing written,
    for a name that is no C identifier or a need beyond ``flash_budget`` or ``ram_budget`` bytes.
    """
    header, code, size = emit(graph, name, streaming=streaming, test_samples=test_samples)
    for what, need, budget in (("flash", size.flash, flash_budget), ("RAM", size.ram, ram_budget)):
        if budget is not None and need > budget:
            raise ConfigError(f"{name} needs {need} bytes of {what}, the budget is {budget}: nothing written ({size})")
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".h", header), (".c", code)):
        partial = folder / f".{name}{suffix}.partial"
        partial.write_text(text, encoding="ascii", newline="\n")
        os.replace(partial, folder / f"{name}{suffix}")
    return size


def emit(
    graph: ir.Graph, name: str, *, streaming: bool = False, test_samples: NDArray[np.uint8] | None = None
) -> tuple[str, str, Footprint]:
    """Header and source text, and their footprint; equal arguments give equal text."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        raise ConfigError(f"name is {name!r}, accepted: a C identifier that begins with a letter")
    plan = make_plan(graph, streaming)
    source = Source()
    lifs = [node for node in graph.nodes if isinstance(node, ir.Lif)]
    row_type = "int16_t" if any(membrane_type(node) == "int16_t" for node in lifs) else "int8_t"
    for index in range(1, len(graph.nodes)):
        source.code(f"/* {_node_comment(plan, index)} */")
        if plan.kind(index) == "current":
            current_function(source, plan, index)
        else:
            node_function(source, plan, index, row_type)
    source.call("crc32c", "signed32")
    test = self_test_tables(graph, streaming, test_samples)
    buffers, membranes, scratch = _buffers(source, plan, row_type)
    size = Footprint(
        weights=sum(t.bytes for t in source.weights),
        parameters=sum(t.bytes for t in source.parameters),
        self_test=sum(t.bytes for t in test[:2]),
        helpers=CRC_TABLE_BYTES,
        edges=plan.edge_bytes,
        membranes=membranes,
        scratch=scratch,
    )
    tables = "\n".join(t.text() for t in (*source.weights, *source.parameters))
    code = "\n".join(
        [
            f"/* {title(plan, name)}\n   {size} */",
            f'#include "{name}.h"\n',
            "typedef char int_has_32_bits[sizeof(int) >= 4 ? 1 : -1];\n",
            PROLOGUE,
            tables,
            buffers,
            needed(source.helpers),
            *([MERGE, *source.unpackers.values()] if source.unpackers else []),
            source.code.text(),
            interface(plan, name, test),
            EPILOGUE.lstrip("\n"),
        ]
    )
    return header_text(plan, name), code, size


def _node_comment(plan: Plan, index: int) -> str:
    """What a node is: number, operation, name, shape, bits and where it reads."""
    node, names = plan.graph.nodes[index], plan.graph.names
    name = " " + re.sub(r"[^A-Za-z0-9_.-]", "_", names[index]) if names else ""
    bits = ""
    if isinstance(node, ir.Conv | ir.Linear | ir.Readout):
        bits = f", {node.bits}-bit {'odd ' if node.odd else ''}weights"
    shape = "x".join(map(str, plan.shapes[index]))
    return f"{index}: {type(node).__name__}{name}, {shape}{bits}, of {', '.join(map(str, ir.sources(node)))}"


def _buffers(source: Source, plan: Plan, row_type: str) -> tuple[str, int, int]:
    """Static buffers as C, bytes of kept membranes, bytes of scratch."""
    lines = ["/* Edges share one buffer; their places follow from when they are read last. */"]
    if plan.edge_bytes:
        lines.append(
            f"static union {{ uint32_t words[{plan.edge_bytes // 4}]; uint8_t bytes[{plan.edge_bytes}]; }} edges;"
        )
    lines += [
        f"#define edge_{e.node} (edges.bytes + {e.offset}u)" for e in sorted(plan.edges.values(), key=lambda e: e.node)
    ]
    membranes = scratch = 0
    channels = 0
    for index, node in enumerate(plan.graph.nodes):
        if not isinstance(node, ir.Lif):
            continue
        c, h, w = plan.shapes[index]
        channels = max(channels, c)
        if plan.streaming:
            ctype = membrane_type(node)
            membranes += c * h * w * WIDTHS[ctype]
            lines.append(f"static {ctype} membranes_{index}[{c * h * w}];")
    if plan.keeps_membranes and not plan.streaming:
        scratch += channels * WIDTHS[row_type]
        lines.append(f"static {row_type} membrane[{channels}];")
    for slot, size in enumerate(source.current_bytes):
        if size:
            words = (size + 3) // 4
            scratch += 4 * words
            lines.append(f"static union {{ int32_t wide[{words}]; int16_t narrow[{2 * words}]; }} currents_{slot};")
    lines.append("#define logits_of currents_0.wide")
    scratch += source.function_bytes
    if source.plane_words:
        scratch += 4 * source.plane_words
        lines.append(f"static uint32_t planes[{source.plane_words}];")
    if source.list_entries:
        ctype = "uint16_t" if source.largest_entry < 2**16 else "uint32_t"
        scratch += source.list_entries * WIDTHS[ctype]
        lines.append(f"typedef {ctype} entry;\nstatic entry list[{source.list_entries}];")
    return "\n".join(lines) + "\n", membranes, scratch
