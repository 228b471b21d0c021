"""A tiny artifact to damage, and whether the engine takes what became of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from graphs import random_weight

from bitspike import engine
from bitspike.deploy import artifact, ir
from bitspike.errors import ArtifactError

INPUT, CONV, LIF, POOL, READOUT = range(5)  # node indices of `small`


def small(test_vectors: int = 0) -> bytes:
    """A tiny network of five nodes with every section but TESTVEC, unless asked for."""
    rng = np.random.default_rng(5)
    lif = ir.Lif(
        (CONV,),
        np.ones((1, 3), np.int32),
        *rng.integers(-50, 50, (2, 3)).astype(np.int32),
        np.array([0, 1, 2], np.uint8),
        8,
        1,
    )
    nodes = [ir.Input(2, 3, 3, 1, (5, 9)), ir.Conv(INPUT, random_weight(rng, (3, 2, 2, 2), 3), 3, 1, 1), lif]
    nodes += [ir.OrPool(LIF, 2, 2), ir.Readout(POOL, random_weight(rng, (3, 12), 2), np.array([1, 2, 3], np.int32), 2)]
    graph = ir.Graph(2, nodes, ["in", "conv", "lif", "pool", "out"], [0.0, 0.0, 0.25, 0.5, 0.0], {"a": 1})
    vectors = rng.integers(0, 256, (test_vectors, 2, 3, 3), np.uint8)
    return artifact.encode(graph, vectors)


def refused(data: bytes, *words: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        engine.load(data)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in {caught.value}"


def accepted_or_refused(data: bytes) -> bool:
    """Whether the file loads; if so, one sample must run."""
    try:
        net = engine.load(data, max_memory=1 << 22)
    except ArtifactError:
        return False
    if math.prod(net.input_shape) * net.time_steps < 1 << 12:
        net.run(np.zeros((1, *net.input_shape), np.uint8))
    return True
