"""The engine built as a library and a runner, and one small network for both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import random_weight
from native_build import build

from bitspike.deploy import artifact, ir


@pytest.fixture(scope="session")
def built() -> Path:
    return build("test-shared", "-DBITSPIKE_SHARED=ON")


@pytest.fixture
def example() -> tuple[ir.Graph, np.ndarray]:
    """3 x 5 x 4 input, one convolution, 4 classes; three samples."""
    rng = np.random.default_rng(5)
    arrays = [rng.integers(1, 90, 17).astype(np.int32) for _ in range(2)]
    lif = ir.Lif((1,), np.ones((1, 17), np.int32), *arrays, np.zeros(17, np.uint8), 8, 1)
    conv = ir.Conv(0, random_weight(rng, (17, 3, 3, 3), 4), 4, 1, 1)
    readout = ir.Readout(2, random_weight(rng, (4, 17 * 20), 3), np.arange(4, dtype=np.int32), 3)
    graph = ir.Graph(3, [ir.Input(3, 5, 4, 1, (99, 100, 128)), conv, lif, readout])
    return graph, rng.integers(0, 256, (3, 3, 5, 4), np.uint8)


@pytest.fixture
def model(example: tuple[ir.Graph, np.ndarray], tmp_path: Path) -> Path:
    artifact.save(example[0], tmp_path / "net.bspk", example[1])
    return tmp_path / "net.bspk"
