"""Lowering: a trained model to its integer graph, proved, and its artifact."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import LoweringError
from . import artifact, ir, reference
from .check import Range, check, fits_int16
from .exact import ExactModel, exact_model
from .lower_nodes import lowered

__all__ = ["Artifact", "compile"]

FLOAT32_EXACT = 2**24


@dataclass(frozen=True)
class Artifact:
    """A compiled network: its ``graph``, the ``ranges`` proved for every node, and samples stored for its self-test."""

    graph: ir.Graph
    ranges: list[Range]
    test_vectors: NDArray[np.uint8] | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """The ``.bspk`` file's content."""
        return artifact.encode(self.graph, self.test_vectors)

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the ``.bspk`` file; returns its size in bytes."""
        return artifact.save(self.graph, path, self.test_vectors)

    def int16_channels(self) -> dict[str, tuple[int, int]]:
        """Per neuron layer: (channels whose membrane provably fits 16 bits, all channels)."""
        return {
            name: (int(fits_int16(bounds).sum()), len(bounds.low))
            for node, name, bounds in zip(self.graph.nodes, self.graph.names, self.ranges, strict=True)
            if isinstance(node, ir.Lif)
        }


@torch.no_grad()
def compile(
    model: nn.Module, example: Tensor | NDArray[np.uint8], *, meta: dict[str, Any] | None = None, test_vectors: int = 2
) -> Artifact:
    """Lower a trained, quantized ``model`` to an integer graph and prove that its integers fit.

    example: u8 samples (N, C, H, W), or frames (N, T, C, H, W); they give the shapes, the firing rates stored as
    calibration, and the first ``test_vectors`` of them the self-test. ``meta`` is stored as JSON.
    Raises LoweringError with the layer's name and the reason where something cannot be exact.
    """
    samples = np.asarray(example.cpu() if isinstance(example, Tensor) else example)
    if samples.dtype != np.uint8 or samples.ndim not in (4, 5) or not len(samples):
        raise LoweringError(
            f"example is {samples.dtype} {samples.shape}, accepted: at least one uint8 sample (N, C, H, W) or (N, T, C, H, W)"
        )
    exact = model if isinstance(model, ExactModel) else exact_model(model)
    encoding = exact.encoding
    frames = 1 if samples.ndim == 4 else encoding.time_steps
    if samples.ndim == 5 and samples.shape[1] != encoding.time_steps:
        raise LoweringError(f"example has {samples.shape[1]} frames, accepted: {encoding.time_steps}")
    graph = _graph(exact, encoding, frames, samples.shape[-3:])
    ranges = check(graph)
    _check_float32(graph, ranges)
    graph.rates = _rates(graph, samples[:64])
    graph.meta = dict(meta or {})
    return Artifact(graph, ranges, samples[:test_vectors].copy())


def _graph(exact: ExactModel, encoding: DirectEncoding, frames: int, shape: tuple[int, ...]) -> ir.Graph:
    channels, height, width = shape
    graph = ir.Graph(
        encoding.time_steps, [ir.Input(channels, height, width, frames, tuple(encoding.zero_point.tolist()))]
    )
    graph.names.append("input")
    node_of_layer = [0]
    edges = [exact.edge(0, [], shape)]
    for index in range(1, len(exact.layers)):
        read = [edges[s] for s in exact.sources[index]]
        node = lowered(graph, exact.layers[index], [node_of_layer[s] for s in exact.sources[index]], read)
        node_of_layer.append(node)
        edges.append(exact.edge(index, read, ir.node_shapes(graph)[node]))
    return graph


def _rates(graph: ir.Graph, samples: NDArray[np.uint8]) -> list[float]:
    spikes = reference.run(graph, samples).spikes
    return [float(spikes[i].mean()) if i in spikes else float("nan") for i in range(len(graph.nodes))]


def _check_float32(graph: ir.Graph, ranges: list[Range]) -> None:
    """Training-side exactness: every integer the torch forward holds must be below 2^24; sums of streams are in float64."""
    for node, name, bounds in zip(graph.nodes, graph.names, ranges, strict=True):
        if isinstance(node, ir.Reduce | ir.SumPool | ir.Readout) and ranges[node.source].kind == "stream":
            continue
        low = bounds.low if bounds.potential_low is None else bounds.potential_low
        high = bounds.high if bounds.potential_high is None else bounds.potential_high
        reach = int(max(-low.min(), high.max()))
        if reach >= FLOAT32_EXACT:
            raise LoweringError(f"{name!r} reaches {reach}, beyond the 2^24 that the exact training forward can hold")
