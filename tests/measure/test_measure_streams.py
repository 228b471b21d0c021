"""Streams, products of spike matrices, masks and mixing neurons as float networks of the rivals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import stream_graphs
import torch

from bitspike.deploy import ir, reference
from bitspike.measure import rivals, torch_network


@pytest.mark.parametrize("name", list(stream_graphs.GRAPHS))
@pytest.mark.parametrize("seed", range(6))
def test_torch_network_equals_the_reference(name: str, seed: int) -> None:
    graph, samples = stream_graphs.GRAPHS[name](seed), stream_graphs.samples(seed)
    found = torch_network(graph).double()(torch.from_numpy(samples).double())
    assert np.array_equal(found.numpy(), reference.run(graph, samples).logits)


@pytest.mark.parametrize("name", list(stream_graphs.GRAPHS))
@pytest.mark.parametrize("seed", range(3))
def test_channels_may_stand_last(name: str, seed: int) -> None:
    """The layout in which torch runs convolutions fastest, so the one a fair comparison tries as well."""
    graph, samples = stream_graphs.GRAPHS[name](seed), stream_graphs.samples(seed)
    network = torch_network(graph).double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.from_numpy(samples).double().contiguous(memory_format=torch.channels_last)
    assert np.array_equal(network(pixels).numpy(), reference.run(graph, samples).logits)


def test_torch_network_equals_the_reference_on_frames() -> None:
    graph = stream_graphs.mixing(1)
    first = graph.nodes[0]
    assert isinstance(first, ir.Input)
    graph.nodes[0] = ir.Input(first.channels, first.height, first.width, graph.time_steps, first.zero_point)
    shape = (2, graph.time_steps, first.channels, first.height, first.width)
    samples = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    found = torch_network(graph).double()(torch.from_numpy(samples).double())
    assert np.array_equal(found.numpy(), reference.run(graph, samples).logits)


@pytest.mark.parametrize("name", list(stream_graphs.GRAPHS))
def test_onnx_equals_torch(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    graph, samples = stream_graphs.GRAPHS[name](2), stream_graphs.samples(2)
    rivals.onnx_float(graph, tmp_path / "x.onnx", len(samples))
    pixels = samples.astype(np.float32)
    found = rivals.onnx_session(tmp_path / "x.onnx", 1)(pixels)
    assert np.array_equal(found, torch_network(graph)(torch.from_numpy(pixels)).detach().numpy())
