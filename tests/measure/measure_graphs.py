"""What several tests of bitspike.measure use: a shipped network's parts, and graphs with every node type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitspike import deploy
from bitspike.deploy import ir


@dataclass(frozen=True)
class Shipped:
    """The exact model, its graph and artifact, and u8 digits with labels."""

    exact: deploy.exact.ExactModel
    graph: ir.Graph
    artifact: bytes
    samples: NDArray[np.uint8]
    labels: NDArray[np.int64]


def random_graph(seed: int, *, frames: int = 1) -> ir.Graph:
    """Every node type once: strided and grouped convolutions, both pools, a residual sum, a shortcut, a linear layer."""
    rng = np.random.default_rng(seed)
    steps = 3

    def weight(*shape: int, bits: int = 4) -> NDArray[np.int8]:
        limit = 2 ** (bits - 1) - 1
        values = rng.integers(-limit, limit + 1, shape) if bits > 1 else rng.choice([-1, 1], shape)
        return values.astype(np.int8)

    def lif(sources: tuple[int, ...], channels: int, threshold: int, **options: object) -> ir.Lif:
        numbers = {
            "multiplier": rng.choice([-2, 1, 2], (len(sources), channels)).astype(np.int32),
            "bias": rng.integers(-3, 4, channels).astype(np.int32),
            "threshold": rng.integers(1, threshold, channels).astype(np.int32),
            "membrane_shift": rng.integers(0, 3, channels).astype(np.uint8),
            "membrane_bits": 5,
            "leak_shift": 1,
        }
        return ir.Lif(sources, **(numbers | options))  # type: ignore[arg-type]

    nodes: list[ir.Node] = [
        ir.Input(2, 9, 7, frames, (100, 30)),
        ir.Conv(0, weight(6, 2, 3, 3, bits=8), 8, stride=1, padding=1),
        lif((1,), 6, 9000),
        ir.Conv(2, weight(6, 2, 3, 3), 4, stride=2, padding=1, groups=3),
        lif((3,), 6, 20, soft_reset=True),
        ir.Conv(4, weight(6, 6, 1, 1, bits=1), 1),
        lif((5, 4), 6, 6, membrane_bits=16, membrane_shift=np.zeros(6, np.uint8)),
        ir.Add(6, 4),
        ir.SumPool(7, 2, 2),
        ir.OrPool(6, 3, 2, 1),
        ir.Conv(9, weight(4, 6, 3, 2), 4, padding=1),
        lif((10,), 4, 12, leak_shift=0),
        ir.Linear(8, weight(5, 6 * 2 * 2), 4),
        lif((12,), 5, 10),
        ir.Linear(11, weight(5, 4 * 3 * 3), 4),
        lif((14, 13), 5, 10),
        ir.Readout(15, weight(3, 5), rng.integers(-5, 6, 3).astype(np.int32), 4),
    ]
    return ir.Graph(steps, nodes, [f"n{i}" for i in range(len(nodes))])


def attention_graph(seed: int, *, frames: int = 1, heads: int = 2) -> ir.Graph:
    """Queries of 6 channels on 6x5 pixels, keys on 3x2, values of 4 channels; attention with a shortcut."""
    rng = np.random.default_rng(seed)

    def conv(source: int, outputs: int, inputs: int) -> ir.Conv:
        return ir.Conv(source, rng.integers(-7, 8, (outputs, inputs, 1, 1)).astype(np.int8), 4)

    def lif(sources: tuple[int, ...], channels: int, threshold: int) -> ir.Lif:
        multiplier = rng.integers(1, 3, (len(sources), channels)).astype(np.int32)
        limits = rng.integers(1, threshold, channels).astype(np.int32)
        return ir.Lif(sources, multiplier, np.zeros(channels, np.int32), limits, np.zeros(channels, np.uint8), 12, 1)

    nodes: list[ir.Node] = [ir.Input(2, 6, 5, frames, (120, 90)), conv(0, 6, 2), lif((1,), 6, 900)]
    nodes += [ir.OrPool(2, 2, 2), conv(3, 4, 6), lif((4,), 4, 12), conv(2, 4, 6), lif((6,), 4, 12)]
    nodes += [ir.Attention(2, 3, 5, heads), lif((8, 7), 4, 30)]
    nodes.append(ir.Readout(9, rng.integers(-7, 8, (3, 4)).astype(np.int8), np.zeros(3, np.int32), 4, True))
    return ir.Graph(3, nodes, [f"n{i}" for i in range(len(nodes))])


def random_samples(graph: ir.Graph, count: int, seed: int = 0) -> NDArray[np.uint8]:
    node = graph.input
    frames = () if node.frames == 1 else (node.frames,)
    shape = (count, *frames, node.channels, node.height, node.width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def allocation_record(unit: str = "bytes", accuracies: tuple[float | None, ...] = (None, None, None)) -> dict[str, Any]:
    """The report's key "allocation", of three points."""
    scale = {"bytes": 1.0, "seconds": 1e-7}[unit]
    costs, losses = (4000 * scale, 6500 * scale, 9000 * scale), (0.9, 0.031, 0.002)
    front = [{"cost": c, "predicted": p, "accuracy": a} for c, p, a in zip(costs, losses, accuracies, strict=True)]
    return {
        "measure": "Divergence <nats>.",
        "quantizer": "rescaw-max",
        "samples": 128,
        "forward_passes": 29,
        "seconds": 0.5,
        "unit": unit,
        "fixed": 1500 * scale,
        "layers": [
            {"name": "features.0.currents.0.layer", "bits": 8, "cost": 3000 * scale, "sensitivity": 0.001},
            {"name": "readout.layer", "bits": 3, "cost": 2000 * scale, "sensitivity": 0.03},
        ],
        "chosen": front[1],
        "front": front,
    }
