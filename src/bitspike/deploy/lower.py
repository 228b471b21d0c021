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
from ..layers import AvgPool, MaxPool
from . import artifact, ir, reference
from .check import Range, check, fits_int16
from .exact import ExactModel, ExactReadout, ExactUnit, exact_model

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
    nodes: list[ir.Node] = [ir.Input(channels, height, width, frames, tuple(encoding.zero_point.tolist()))]
    names = ["input"]
    edge_of_step = [0]
    for step, layer in zip(exact.steps[1:], exact.layers[1:], strict=True):
        sources = tuple(edge_of_step[s] for s in step.sources)
        if isinstance(layer, ExactUnit):
            _append_unit(nodes, names, step.name, layer, sources)
        elif isinstance(layer, ExactReadout):
            height, width = ir.node_shapes(ir.Graph(encoding.time_steps, nodes))[sources[0]][1:]
            nodes.append(_readout(layer, sources[0], torch.Size((height, width))))
            names.append(step.name)
        else:
            nodes.append(_plain(step.module, sources))
            names.append(step.name)
        edge_of_step.append(len(nodes) - 1)
    return ir.Graph(encoding.time_steps, nodes, names)


def _append_unit(nodes: list[ir.Node], names: list[str], name: str, unit: ExactUnit, sources: tuple[int, ...]) -> None:
    forms, folded = unit.integers()
    edges = []
    for position, (form, source) in enumerate(zip(forms, sources, strict=True)):
        if form.weight is None:
            edges.append(source)
            continue
        weight = _weight(name, form.weight, form.bits, form.odd)
        if weight.ndim == 4:
            nodes.append(ir.Conv(source, weight, form.bits, form.stride, form.padding, form.groups, form.odd))
        else:
            nodes.append(ir.Linear(source, weight, form.bits, form.odd))
        names.append(f"{name}.currents.{position}")
        edges.append(len(nodes) - 1)
    nodes.append(
        ir.Lif(
            tuple(edges),
            _int32(name, folded.multiplier),
            _int32(name, folded.bias),
            _int32(name, folded.threshold),
            folded.membrane_shift.cpu().numpy().astype(np.uint8),
            unit.form.membrane_bits,
            unit.form.leak_shift,
            unit.form.soft_reset,
        )
    )
    names.append(name)


def _readout(layer: ExactReadout, source: int, area: torch.Size) -> ir.Readout:
    weight, bias, _ = layer.integers(area)
    integers = _weight(layer.name, weight.integers, weight.bits, weight.odd)
    return ir.Readout(source, integers, _int32(layer.name, bias), weight.bits, layer.readout.pool, weight.odd)


def _plain(module: nn.Module | None, sources: tuple[int, ...]) -> ir.Node:
    match module:
        case MaxPool():
            return ir.OrPool(sources[0], *(int(v) for v in (module.kernel_size, module.stride, module.padding)))  # type: ignore[arg-type]
        case AvgPool():
            return ir.SumPool(sources[0], int(module.kernel_size), int(module.stride))  # type: ignore[arg-type]
        case _:
            return ir.Add(*sources)


def _rates(graph: ir.Graph, samples: NDArray[np.uint8]) -> list[float]:
    spikes = reference.run(graph, samples).spikes
    return [float(spikes[i].mean()) if i in spikes else float("nan") for i in range(len(graph.nodes))]


def _check_float32(graph: ir.Graph, ranges: list[Range]) -> None:
    """Training-side exactness: every integer the torch forward holds must be below 2^24."""
    for name, bounds in zip(graph.names, ranges, strict=True):
        low = bounds.low if bounds.potential_low is None else bounds.potential_low
        high = bounds.high if bounds.potential_high is None else bounds.potential_high
        reach = int(max(-low.min(), high.max()))
        if reach >= FLOAT32_EXACT:
            raise LoweringError(f"{name!r} reaches {reach}, beyond the 2^24 that the exact training forward can hold")


def _weight(name: str, values: Tensor, bits: int, odd: bool) -> ir.Weight:
    array = values.detach().float().cpu().numpy()
    dtype = ir.weight_type(bits, odd)
    weight = array.astype(dtype)
    if not np.array_equal(weight, array):
        wrong = array[weight != array][0]
        raise LoweringError(f"{name!r} has a weight of {wrong:g}, accepted: integers of {np.iinfo(dtype).bits} bits")
    return weight


def _int32(name: str, values: Tensor) -> NDArray[np.int32]:
    array = values.detach().double().cpu().numpy()
    if not np.isfinite(array).all() or np.abs(array).max(initial=0) >= 2**31:
        raise LoweringError(f"{name!r} has a parameter of {np.abs(array).max()}, beyond 32 bits")
    return array.astype(np.int32)
