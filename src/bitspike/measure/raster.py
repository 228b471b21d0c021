"""Spikes of one real sample, thinned for drawing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..deploy import ir
from ..neurons import Neuron

__all__ = ["RasterLayer", "network_raster", "spike_raster"]


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
    names = graph.names or [f"node {index}" for index in range(len(graph.nodes))]
    return [_thinned(names[index], spikes[:, sample], neurons) for index, spikes in sorted(trace.items())]


@torch.no_grad()
def network_raster(model: nn.Module, inputs: Tensor, neurons: int = 64) -> list[RasterLayer]:
    """The same of every neuron layer of a torch network, in order of firing, for one sample of ``inputs`` (1, C, H, W) or
    (T, 1, C, H, W); of neurons with more levels than two, what is not 0. The mode is the model's."""
    layers: list[RasterLayer] = []
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, Neuron):
                hook = module.register_forward_hook(
                    lambda neuron, _i, out, name=name: layers.append(
                        _thinned(neuron.label or name.removesuffix(".neuron"), out[:, 0].ne(0).numpy(), neurons)
                    )
                )
                hooks.callback(hook.remove)
        model(inputs)
    return layers


def _thinned(name: str, spikes: NDArray[Any], neurons: int) -> RasterLayer:
    """spikes (T, ...) of one sample."""
    one = np.asarray(spikes).reshape(len(spikes), -1)
    shown = np.unique(np.linspace(0, one.shape[1] - 1, min(neurons, one.shape[1])).round().astype(int))
    fired = [np.flatnonzero(step[shown]).tolist() for step in one]
    return RasterLayer(name, one.shape[1], len(shown), float(one.mean()), fired)
