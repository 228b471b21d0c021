"""Proof that every executor of an artifact computes the trained network: logits and spikes compared bit for bit."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import engine
from ..deploy import ir, reference
from .stream_operations import matrix_products

__all__ = ["AgreementRow", "agreement_table", "exact_outputs"]

Samples = NDArray[np.uint8]
Outputs = tuple[NDArray[np.int32], dict[int, NDArray[np.uint8]]]
"""Logits (N, classes) and Lif node index -> spikes (T, N, C, H, W)."""

SPIKE_BYTES = 1 << 24  # spikes of one batch; the torch forward needs some ten times that
PATCH_BYTES = 1 << 27  # patches of the reference's largest convolution
REFERENCE_OPERATIONS = 10**10


@dataclass(frozen=True)
class AgreementRow:
    """``left`` and ``right`` compared on ``samples`` samples: numbers of values compared and of those that differ."""

    left: str
    right: str
    samples: int
    spikes: int
    differing_spikes: int
    logits: int
    differing_logits: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def agreement_table(
    artifact: bytes | str | os.PathLike[str],
    samples: Samples,
    exact: nn.Module | None = None,
    *,
    reference_samples: int | None = None,
    levels: Sequence[str] | None = None,
) -> list[AgreementRow]:
    """Compare the engine at every level, the numpy reference and, when given, the exact torch model (deploy.exact_model).

    samples: u8 (N, C, H, W) or (N, T, C, H, W), taken in batches that fit into memory. The left side is the exact
    model, or without it the reference. The reference is slow: it sees the first ``reference_samples`` (None: as many
    as take about half a minute, at most 256).
    """
    data = artifact if isinstance(artifact, bytes) else Path(artifact).read_bytes()
    networks = {f"engine, {level}": engine.load(data, level=level) for level in levels or engine.levels()}
    graph = next(iter(networks.values())).graph()
    runners: dict[str, Callable[[Samples], Outputs]] = {
        name: partial(_engine_outputs, network, graph) for name, network in networks.items()
    }
    limit = min(_affordable(graph) if reference_samples is None else reference_samples, len(samples))
    small = _batch(graph, PATCH_BYTES, _patch_bytes(graph))
    batch = _batch(graph, SPIKE_BYTES, _spike_bytes(graph))

    def by_reference(x: Samples) -> Outputs:
        return _reference_outputs(graph, x, small)

    if exact is None:
        return [
            _compare("numpy reference", name, by_reference, run, samples[:limit], batch)
            for name, run in runners.items()
        ]

    def by_torch(x: Samples) -> Outputs:
        return exact_outputs(exact, graph, x)

    rows = [_compare("torch, exact mode", "numpy reference", by_torch, by_reference, samples[:limit], batch)]
    return rows + _compare_all("torch, exact mode", by_torch, runners, samples, batch)


@torch.no_grad()
def exact_outputs(exact: nn.Module, graph: ir.Graph, samples: Samples) -> Outputs:
    """Logits and spikes of an exact torch model, the spikes observed where its units fire."""
    index = {name: i for i, name in enumerate(graph.names) if isinstance(graph.nodes[i], ir.Firing)}
    spikes: dict[int, NDArray[np.uint8]] = {}

    def observe(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, fired: Tensor) -> None:
            spikes[index[name]] = fired.to(torch.uint8).cpu().numpy()

        return hook

    units = [m for m in exact.modules() if isinstance(getattr(m, "fired", None), nn.Module)]
    handles = [unit.fired.register_forward_hook(observe(str(unit.name))) for unit in units]  # type: ignore[union-attr]
    try:
        x = torch.from_numpy(np.ascontiguousarray(samples))
        device = next((p.device for p in exact.parameters()), x.device)
        steps, _ = exact.integer_steps((x.transpose(0, 1) if x.dim() == 5 else x).to(device))  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    return steps.double().sum(0).cpu().numpy().astype(np.int32), spikes


def named_trace(network: engine.Network, graph: ir.Graph, samples: Samples) -> dict[int, NDArray[np.uint8]]:
    """The engine's trace by node index."""
    lifs = [i for i, node in enumerate(graph.nodes) if isinstance(node, ir.Firing)]
    return dict(zip(lifs, network.trace(samples).values(), strict=True))


def _engine_outputs(network: engine.Network, graph: ir.Graph, samples: Samples) -> Outputs:
    return network.run(samples), named_trace(network, graph, samples)


def _reference_outputs(graph: ir.Graph, samples: Samples, batch: int) -> Outputs:
    parts = [reference.run(graph, samples[i : i + batch]) for i in range(0, len(samples), batch)]
    spikes = {i: np.concatenate([p.spikes[i] for p in parts], 1) for i in parts[0].spikes}
    return np.concatenate([p.logits for p in parts]), spikes


def _compare(
    left: str,
    right: str,
    run_left: Callable[[Samples], Outputs],
    run_right: Callable[[Samples], Outputs],
    samples: Samples,
    batch: int,
) -> AgreementRow:
    return _compare_all(left, run_left, {right: run_right}, samples, batch)[0]


def _compare_all(
    left: str,
    run_left: Callable[[Samples], Outputs],
    runners: dict[str, Callable[[Samples], Outputs]],
    samples: Samples,
    batch: int,
) -> list[AgreementRow]:
    """Rows of one left side, run once, against several right sides."""
    counts = {name: np.zeros(4, np.int64) for name in runners}
    for start in range(0, len(samples), batch):
        x = samples[start : start + batch]
        expected = run_left(x)
        for name, run in runners.items():
            counts[name] += _differences(expected, run(x))
    return [AgreementRow(left, name, len(samples), *(int(v) for v in counted)) for name, counted in counts.items()]


def _differences(left: Outputs, right: Outputs) -> NDArray[np.int64]:
    """Spikes compared, spikes that differ, logits compared, logits that differ."""
    logits, spikes = left
    other_logits, other_spikes = right
    if spikes.keys() != other_spikes.keys():
        raise ValueError(f"spikes of nodes {sorted(spikes)} cannot be compared with those of {sorted(other_spikes)}")
    return np.array(
        [
            sum(s.size for s in spikes.values()),
            sum(int(np.count_nonzero(s != other_spikes[i])) for i, s in spikes.items()),
            logits.size,
            np.count_nonzero(logits != other_logits),
        ],
        np.int64,
    )


def _batch(graph: ir.Graph, limit: int, per_sample: int) -> int:
    return max(1, min(256, limit // max(per_sample, 1)))


def _affordable(graph: ir.Graph) -> int:
    """Samples that the reference is given by default."""
    shapes = ir.node_shapes(graph)
    weighted = ir.Conv | ir.Linear
    dense = sum(n.weight.size * math.prod(shapes[i][1:]) for i, n in enumerate(graph.nodes) if isinstance(n, weighted))
    for node in graph.nodes:
        if isinstance(node, ir.Attention):
            tokens = sum(math.prod(shapes[s][1:]) for s in (node.query, node.key))
            dense += shapes[node.query][0] * (shapes[node.value][0] // node.heads) * tokens
        elif isinstance(node, ir.MatMul):
            dense += matrix_products(node, shapes)
    return max(4, min(256, REFERENCE_OPERATIONS // max(dense * graph.time_steps, 1)))


def _spike_bytes(graph: ir.Graph) -> int:
    shapes = ir.node_shapes(graph)
    return graph.time_steps * sum(
        math.prod(s) for s, n in zip(shapes, graph.nodes, strict=True) if isinstance(n, ir.Firing)
    )


def _patch_bytes(graph: ir.Graph) -> int:
    """Bytes that the reference needs for one sample's largest float64 patches or attention products."""
    shapes = ir.node_shapes(graph)
    sizes = [
        math.prod(shapes[i][1:]) * math.prod(node.weight.shape[1:]) * node.groups
        for i, node in enumerate(graph.nodes)
        if isinstance(node, ir.Conv)
    ]
    sizes += [
        shapes[node.query][0] * (shapes[node.value][0] // node.heads)
        for node in graph.nodes
        if isinstance(node, ir.Attention)
    ]
    return 8 * graph.time_steps * max(sizes, default=1)
