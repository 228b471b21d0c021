"""Export targets: what ``bitspike export RUN --to TARGET`` can write, by name."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import BitspikeError, ConfigError

if TYPE_CHECKING:
    from ..deploy import ir

__all__ = ["TARGETS", "Request", "load_network", "write"]


@dataclass(frozen=True)
class Request:
    """What was asked for: ``source`` is the folder of a run or a .bspk file; options left out are None or False."""

    source: Path
    output: Path | None = None
    name: str | None = None
    flash_budget: int | None = None
    ram_budget: int | None = None
    streaming: bool = False
    data_root: Path | None = None


@dataclass(frozen=True)
class Target:
    """A writer, and the optional fields of a :class:`Request` that it looks at."""

    write: Callable[[Request], None]
    options: tuple[str, ...] = ()


def write(target: str, request: Request) -> None:
    """Write ``target`` from ``request``. ConfigError for an unknown target or an option that it does not have."""
    if target not in TARGETS:
        raise ConfigError(f"--to is {target!r}, accepted: {', '.join(TARGETS)}")
    for option in ("name", "flash_budget", "ram_budget", "streaming", "data_root"):
        if getattr(request, option) not in (None, False) and option not in TARGETS[target].options:
            having = ", ".join(name for name, other in TARGETS.items() if option in other.options)
            raise ConfigError(f"--{option.replace('_', '-')} does not apply to --to {target}; accepted with: {having}")
    TARGETS[target].write(request)


def load_network(source: Path) -> tuple[ir.Graph, NDArray[np.uint8] | None]:
    """The verified graph of a run or .bspk file, and its stored test samples uint8 (N, [T,] C, H, W) if it has any."""
    from .. import engine

    path = source / "model.bspk" if source.is_dir() else source
    if not path.is_file():
        raise BitspikeError(f"{source} is neither a .bspk file nor the folder of a finished run")
    graph = engine.load(path).graph()
    return graph, _stored_samples(path.read_bytes(), graph)


def default_name(source: Path) -> str:
    """A C identifier from the run's or file's name: runs/demo and demo.bspk give ``demo``."""
    resolved = source.resolve()
    stem = resolved.parent.name if resolved.name == "model.bspk" else resolved.name.removesuffix(".bspk")
    name = re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_")
    return name if name[:1].isalpha() else f"net_{name}".rstrip("_")


def _bspk(request: Request) -> None:
    from .. import recipes

    recipe, config, bundle, exact = recipes.restore(request.source, request.data_root)
    target = request.output or Path(f"{request.source.name}.bspk")
    size = recipes.compile_for(exact, recipe, config, bundle).save(target)
    print(f"{target}: {size} bytes")


def _c99(request: Request) -> None:
    from ..deploy import c99

    for option in ("flash_budget", "ram_budget"):
        budget = getattr(request, option)
        if budget is not None and budget < 0:
            raise ConfigError(f"--{option.replace('_', '-')} is {budget}, accepted: bytes, 0 or more")
    name, folder = request.name or default_name(request.source), request.output or Path()
    if folder.suffix in (".c", ".h"):
        if request.name not in (None, folder.stem):
            raise ConfigError(f"--name {request.name} and --output {folder} name different files; give one of them")
        name, folder = folder.stem, folder.parent
    graph, samples = load_network(request.source)
    size = c99.footprint(graph, streaming=request.streaming, test_samples=samples)
    print(f"{name}: {size}", flush=True)
    c99.export(
        graph,
        folder,
        name=name,
        flash_budget=request.flash_budget,
        ram_budget=request.ram_budget,
        streaming=request.streaming,
        test_samples=samples,
    )
    print(f"{folder / name}.c, {folder / name}.h")


def _web(request: Request) -> None:
    from .page import write_run_page

    _, samples = load_network(request.source)
    source = request.source.resolve()
    artifact = source / "model.bspk" if source.is_dir() else source
    target = request.output or Path(f"{default_name(source)}.html")
    if target.is_dir():
        target = target / f"{default_name(source)}.html"
    sizes, origin = write_run_page(artifact, target, samples, request.data_root)
    print(
        f"{target}: {sizes['page_bytes']} bytes, {sizes['wasm_bytes']} of them WebAssembly before encoding; samples: {origin}"
    )


def _stored_samples(data: bytes, graph: ir.Graph) -> NDArray[np.uint8] | None:
    """Samples of the TESTVEC section of a file that the engine has verified (docs/format.md)."""
    from ..deploy import c99

    shape = c99.sample_shape(graph)
    size = math.prod(shape)
    (sections,) = struct.unpack_from("<I", data, 16)
    for i in range(sections):
        kind, _, offset, _ = struct.unpack_from("<IIQQ", data, 24 + 32 * i)
        if kind != 6:
            continue
        (count,) = struct.unpack_from("<I", data, offset)
        stride = (size + 3) // 4 * 4 + 4 * len(graph.readout.bias) + 4
        rows = [np.frombuffer(data, np.uint8, size, offset + 4 + n * stride) for n in range(count)]
        return np.stack(rows).reshape(count, *shape) if rows else None
    return None


TARGETS: dict[str, Target] = {
    "bspk": Target(_bspk, ("data_root",)),
    "c99": Target(_c99, ("name", "flash_budget", "ram_budget", "streaming")),
    "web": Target(_web, ("data_root",)),
}
"""Name on the command line -> what writes it."""
