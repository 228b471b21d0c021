"""The emitted C99 of a network as WebAssembly, by Debian's ``clang`` and ``lld``."""

from __future__ import annotations

import math
import shutil
import subprocess
from importlib.resources import files
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from ...errors import BitspikeError
from .. import ir
from ..c99 import export

__all__ = ["compile_wasm", "missing_tools", "spike_bytes"]

PACKAGES = {"clang": "clang", "wasm-ld": "lld"}  # program -> Debian package
NAME = "network"
FLAGS = (
    *("--target=wasm32", "-std=c99", "-O3", "-msimd128", "-mbulk-memory"),  # in all browsers since 2023
    *("-ffreestanding", "-nostdlib", "-Wall", "-Wl,--no-entry", "-Wl,--strip-all"),
    "-Wl,--stack-first",  # an overflow of the stack traps instead of overwriting the network
)


def missing_tools() -> str | None:
    """What must be installed before :func:`compile_wasm` works, as one sentence; None when everything is there."""
    missing = [program for program in PACKAGES if shutil.which(program) is None]
    if not missing:
        return None
    packages = " ".join(PACKAGES[program] for program in missing)
    return f"WebAssembly needs {' and '.join(missing)}, not found on PATH; on Debian: apt-get install {packages}"


def compile_wasm(graph: ir.Graph, test_samples: NDArray[np.uint8] | None = None) -> bytes:
    """The graph as one WebAssembly module without imports; exports memory and the functions of templates/page.c.

    The first of ``test_samples`` u8 (N, [T,] C, H, W) becomes its self-test, without any a random one. BitspikeError
    where clang or wasm-ld is missing or cannot compile for wasm32.
    """
    missing = missing_tools()
    if missing is not None:
        raise BitspikeError(missing)
    offsets = list(accumulate(spike_bytes(graph), initial=0))
    defines = (
        f"-D{NAME}_TRACE",
        f"-DPAGE_SPIKES={max(offsets[-1], 1)}",
        f"-DPAGE_OFFSETS={','.join(map(str, offsets))}",
    )
    with TemporaryDirectory(prefix="bitspike-web-") as temporary:
        folder = Path(temporary)
        export(graph, folder, name=NAME, test_samples=test_samples)
        (folder / "page.c").write_bytes((files(__package__) / "templates" / "page.c").read_bytes())
        command = ["clang", *FLAGS, *defines, "-o", "page.wasm", f"{NAME}.c", "page.c"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise BitspikeError(f"clang cannot compile the network for wasm32: {_first_error(done.stderr)}")
        return (folder / "page.wasm").read_bytes()


def spike_bytes(graph: ir.Graph) -> list[int]:
    """Bytes of the spikes of each Lif or Mix, in node order: T·H·W·ceil(C / 8), channel c in bit c % 8 of byte c // 8."""
    return [
        graph.time_steps * h * w * math.ceil(c / 8)
        for node, (c, h, w) in zip(graph.nodes, ir.node_shapes(graph), strict=True)
        if isinstance(node, ir.Firing)
    ]


def _first_error(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")
