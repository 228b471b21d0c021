"""Seconds that each layer takes at each bit width, from the engine on artifacts of one uniform width each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import engine
from ..deploy import ir
from ..errors import ConfigError

__all__ = ["LayerTimes", "layer_times"]


@dataclass(frozen=True)
class LayerTimes:
    """``seconds``: layer -> bits -> seconds per inference on one thread; ``rest``: what no layer's bits account for."""

    seconds: dict[str, dict[int, float]]
    rest: float


def layer_times(
    artifacts: Mapping[int, bytes], layers: Sequence[str], sample: NDArray[np.uint8], *, repeats: int = 50
) -> LayerTimes:
    """Time of the ``layers`` (names as in ``measure.model_size``) in ``artifacts``, bits -> the network at these bits.

    sample: u8 (C, H, W) or (T, C, H, W), a typical one: kernels follow firing rates. The engine times a neuron layer
    together with the weights it reads. Where it reads two weight layers, each gets its share of their weights, which is
    that of their dense operations (our reading). Pooling, neurons without weights and the like are the rest, of which the
    largest over the artifacts counts.
    Raises ConfigError for no artifacts and for layers that an artifact does not have.
    """
    if not artifacts:
        raise ConfigError("there are no artifacts to time, accepted: at least one")
    seconds: dict[str, dict[int, float]] = {name: {} for name in layers}
    rest = 0.0
    for bits, data in sorted(artifacts.items()):
        found, remaining = _times(data, layers, sample, repeats)
        for name in layers:
            seconds[name][bits] = found[name]
        rest = max(rest, remaining)
    return LayerTimes(seconds, rest)


def _times(
    data: bytes, layers: Sequence[str], sample: NDArray[np.uint8], repeats: int
) -> tuple[dict[str, float], float]:
    """Seconds by layer in one artifact, and of everything else."""
    network = engine.load(data)
    graph, stored = network.graph(), [f"{name}.layer" for name in network.names]  # nodes go by the synapse's name
    missing = [name for name in layers if name not in stored]
    if missing:
        held = [stored[i] for node in range(len(stored)) for i in _weighted(graph, node)]
        raise ConfigError(f"the artifact has no layer {', '.join(missing)}, accepted: {', '.join(held)}")
    found, rest = dict.fromkeys(layers, 0.0), 0.0
    for node, taken in enumerate(network.profile(sample[None], repeats=repeats).values()):
        counted = [i for i in _weighted(graph, node) if stored[i] in found]
        weights = {i: graph.nodes[i].weight.size for i in counted}  # type: ignore[union-attr]
        for i in counted:
            found[stored[i]] += taken * weights[i] / sum(weights.values())
        rest += 0.0 if counted else taken
    return found, rest


def _weighted(graph: ir.Graph, node: int) -> tuple[int, ...]:
    """The nodes with weights whose time the engine books on ``node``."""
    match graph.nodes[node]:
        case ir.Lif(sources=sources):
            return tuple(s for s in sources if isinstance(graph.nodes[s], ir.Conv | ir.Linear))
        case ir.Readout():
            return (node,)
        case _:
            return ()
