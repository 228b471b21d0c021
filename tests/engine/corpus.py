"""Writes small valid artifacts, the starting points of the fuzz driver: ``python -m tests.engine.corpus DIR``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bitspike.deploy import artifact

from .graphs import random_graph, random_samples

FILES = 100
MAX_BYTES = 6000


def write(folder: Path) -> int:
    """Fill ``folder`` with artifacts of random graphs; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for seed in range(10 * FILES):
        rng = np.random.default_rng([seed, 17])
        graph = random_graph(rng, max_nodes=3 + seed % 5)
        data = artifact.encode(graph, random_samples(rng, graph, seed % 3))
        if len(data) <= MAX_BYTES and written < FILES:
            (folder / f"{seed:03}.bspk").write_bytes(data)
            written += 1
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.engine.corpus DIR")
    print(f"{write(Path(sys.argv[1]))} artifacts in {sys.argv[1]}")
