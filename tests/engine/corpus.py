"""Writes small valid artifacts, the starting points of the loader's fuzz driver: ``python -m tests.engine.corpus DIR``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bitspike.deploy import artifact

from .checksums import native_checksums
from .fuzz_graphs import make_case
from .graphs import random_graph, random_samples

FILES = 100
MAX_BYTES = 1600  # small files are damaged, checked and copied faster


def write(folder: Path) -> int:
    """Fill ``folder`` with artifacts of random graphs; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    written = seed = 0
    with native_checksums():
        while written < FILES:
            seed += 1
            rng = np.random.default_rng([seed, 17])
            graph = random_graph(rng, max_nodes=1 + seed % 7)
            data = artifact.encode(graph, random_samples(rng, graph, seed % 3)) if seed % 2 else make_case(seed).data
            if len(data) <= MAX_BYTES:
                (folder / f"{seed:03}.bspk").write_bytes(data)
                written += 1
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.engine.corpus DIR")
    print(f"{write(Path(sys.argv[1]))} artifacts in {sys.argv[1]}")
