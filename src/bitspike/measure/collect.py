"""Every figure of one artifact in one call: what a recipe writes into its result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import engine
from ..deploy import ir
from ..layers import mean_over_time
from .agreement import agreement_table, named_trace
from .attention_maps import attention_of_sample
from .energy import estimate_energy
from .environment import environment
from .latency import measure_latency
from .memory import peak_memory
from .operations import LayerOperations, operations_of, spike_totals
from .raster import network_raster, spike_raster
from .rivals import available_rivals, missing_note
from .size import artifact_sections, model_size

__all__ = ["measure_all", "network_pictures"]

TRACE_BATCH = 16


def measure_all(
    artifact: bytes | str | os.PathLike[str],
    exact: nn.Module | None,
    samples: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    *,
    latency_budget_s: float = 10.0,
    latency_batches: Sequence[int] = (1, 16),
    operation_samples: int = 256,
    agreement_samples: int | None = None,
    reference_samples: int | None = None,
    shown_sample: int = 0,
    against: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Size, operations, energy, latency, memory, agreement, raster, attention, environment; keys as in ``measure.report``.

    exact: the exact torch model (deploy.exact_model), or None to go without the trained network's size and comparison.
    samples: u8 (N, C, H, W) or (N, T, C, H, W); labels (N,). The latency budget is shared by the batch sizes, 0 leaves
    latency and memory out. Operations are counted on the first ``operation_samples``, spikes are drawn of
    ``shown_sample``, the agreement covers the first ``agreement_samples`` (None: all; see ``agreement_table`` for the
    reference). against: see ``measure_latency``.
    """
    data = artifact if isinstance(artifact, bytes) else Path(artifact).read_bytes()
    network = engine.load(data)
    graph = network.graph()
    operations = _operations(network, graph, samples[:operation_samples])
    result: dict[str, Any] = {
        "artifact": {
            "bytes": len(data),
            "sections": artifact_sections(data),
            "memory_bytes": network.memory_bytes,
            "level": network.level,
            "time_steps": graph.time_steps,
            "input_shape": list(network.input_shape),
        },
        "operations": [row.as_dict() for row in operations],
        "operation_samples": min(operation_samples, len(samples)),
        "energy": [row.as_dict() for row in estimate_energy(operations)],
        "agreement": [
            row.as_dict()
            for row in agreement_table(data, samples[:agreement_samples], exact, reference_samples=reference_samples)
        ],
        "raster": _raster(network, graph, samples, labels, shown_sample),
        "input_image": input_image(samples[shown_sample]),
        "environment": environment(),
    }
    if exact is not None:
        source = getattr(exact, "source", exact)
        result["size"] = model_size(source).as_dict()
        result |= _attention(source, _as_input(samples, shown_sample))
    if latency_budget_s > 0:
        rivals = available_rivals() if against is None else tuple(against)
        budget = latency_budget_s / max(len(latency_batches), 1)
        rows = [
            row
            for batch in latency_batches
            for row in measure_latency(data, samples, exact, batch=batch, budget_s=budget, against=rivals)
        ]
        result["latency"] = [row.as_dict() for row in rows]
        result["memory"] = [row.as_dict() for row in peak_memory(data, samples, against=rivals)]
        note = missing_note()
        if against is None and note:
            result["latency_note"] = note
    return result


def network_pictures(
    model: nn.Module,
    samples: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    *,
    shown_sample: int = 0,
) -> dict[str, Any]:
    """Raster, attention and input image of one sample in a torch network that is not shipped; keys as in ``measure.report``.

    model: in evaluation mode, on the CPU; samples, labels and shown_sample as in :func:`measure_all`.
    """
    inputs = _as_input(samples, shown_sample)
    layers = network_raster(model, inputs)
    with torch.no_grad():
        logits: torch.Tensor = model(inputs)
    raster = {
        "sample": shown_sample,
        "time_steps": len(logits),
        "prediction": int(mean_over_time(logits)[0].argmax()),
        "label": None if labels is None else int(labels[shown_sample]),
        "layers": [layer.as_dict() for layer in layers],
    }
    pictures = {"raster": raster, "input_image": input_image(samples[shown_sample])}
    return pictures | _attention(model, inputs)


def _as_input(samples: NDArray[np.uint8], index: int) -> torch.Tensor:
    """Sample ``index`` as a network takes it: (1, C, H, W), or frames (T, 1, C, H, W)."""
    one = torch.from_numpy(np.ascontiguousarray(samples[index : index + 1]))
    return one.transpose(0, 1) if one.dim() == 5 else one


def _attention(model: nn.Module, inputs: torch.Tensor) -> dict[str, Any]:
    layers = attention_of_sample(model, inputs)
    return {"attention": layers} if layers else {}


def input_image(sample: NDArray[np.uint8]) -> list[Any]:
    """A sample as rows of grey values (H, W) or of RGB triples (H, W, 3), 0..255.

    One channel is grey, three are RGB; frames are summed over time; two channels (events) become red and blue; of any
    other number the mean is shown.
    """
    image = sample.astype(np.float64)
    if image.ndim == 4:
        image = image.sum(0)
        image *= 255 / max(image.max(), 1)
    channels = len(image)
    if channels == 2:
        image = np.stack([image[0], np.zeros_like(image[0]), image[1]])
    elif channels != 3:
        image = image.mean(0, keepdims=True)
    pixels = np.moveaxis(image.round().clip(0, 255).astype(int), 0, -1)
    rows: list[Any] = (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).tolist()
    return rows


def _operations(network: engine.Network, graph: ir.Graph, samples: NDArray[np.uint8]) -> list[LayerOperations]:
    batches = (samples[i : i + TRACE_BATCH] for i in range(0, len(samples), TRACE_BATCH))
    return operations_of(graph, (spike_totals(graph, named_trace(network, graph, x)) for x in batches))


def _raster(
    network: engine.Network, graph: ir.Graph, samples: NDArray[np.uint8], labels: NDArray[np.int64] | None, index: int
) -> dict[str, Any]:
    one = samples[index : index + 1]
    layers = spike_raster(graph, named_trace(network, graph, one))
    return {
        "sample": index,
        "time_steps": graph.time_steps,
        "prediction": int(network.run(one)[0].argmax()),
        "label": None if labels is None else int(labels[index]),
        "layers": [layer.as_dict() for layer in layers],
    }
