"""Spikes of one real sample, thinned for drawing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..deploy import ir

__all__ = ["RasterLayer", "spike_raster"]


@dataclass(frozen=True)
class RasterLayer:
    """``spikes[t]``: positions, within the ``shown`` neurons, of those that fired at step t; ``neurons``: all of them.

    rate: spikes per neuron and step over all neurons of the layer, for this sample.
    """

    name: str
    neurons: int
    shown: int
    rate: float
    spikes: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def spike_raster(
    graph: ir.Graph, trace: Mapping[int, NDArray[np.uint8]], sample: int = 0, neurons: int = 64
) -> list[RasterLayer]:
    """Up to ``neurons`` evenly spaced neurons of every Lif layer; trace: node index -> (T, N, C, H, W)."""
    layers = []
    for index, spikes in sorted(trace.items()):
        one = np.asarray(spikes[:, sample]).reshape(len(spikes), -1)
        shown = np.unique(np.linspace(0, one.shape[1] - 1, min(neurons, one.shape[1])).round().astype(int))
        fired = [np.flatnonzero(step[shown]).tolist() for step in one]
        name = graph.names[index] if graph.names else f"node {index}"
        layers.append(RasterLayer(name, one.shape[1], len(shown), float(one.mean()), fired))
    return layers
