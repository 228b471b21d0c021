from __future__ import annotations

import numpy as np
import pytest
import torch
from measure_graphs import Shipped, random_graph, random_samples

from bitspike.deploy import artifact, reference
from bitspike.errors import BitspikeError, ConfigError
from bitspike.layers import mean_over_time
from bitspike.measure import measure_latency, peak_memory, rivals, torch_network

needs_onnx = pytest.mark.skipif("ort" not in rivals.available_rivals(), reason="onnx or onnxruntime is not installed")


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_torch_network_equals_the_reference(seed: int, frames: int) -> None:
    graph = random_graph(seed, frames=frames)
    samples = random_samples(graph, 5, seed)
    found = torch_network(graph)(torch.from_numpy(samples).float())
    assert np.array_equal(found.numpy(), reference.run(graph, samples).logits)


@needs_onnx
@pytest.mark.parametrize("frames", [1, 3])
def test_onnx_equals_the_reference(frames: int, tmp_path) -> None:
    graph = random_graph(5, frames=frames)
    samples = random_samples(graph, 4)
    rivals.onnx_float(graph, tmp_path / "a.onnx", 4)
    found = rivals.onnx_session(tmp_path / "a.onnx", 1)(samples.astype(np.float32))
    assert np.array_equal(found, reference.run(graph, samples).logits)


def test_plain_copy_computes_the_same_and_leaves_the_model_alone(shipped: Shipped) -> None:
    model = shipped.exact.source
    x = torch.from_numpy(shipped.samples[:8])
    before = model(x)
    plain = rivals.plain_copy(shipped.exact)
    assert not [name for name, _ in plain.named_modules() if "parametrizations" in name]
    assert torch.equal(model(x), before)
    assert (mean_over_time(plain(x)) - mean_over_time(before)).abs().max() < 1  # rounding may flip a rare spike
    assert (plain(x).sum(0).argmax(-1) == before.sum(0).argmax(-1)).float().mean() > 0.8


def test_latency_rows(shipped: Shipped) -> None:
    rows = measure_latency(
        shipped.artifact, shipped.samples[:8], shipped.exact, batch=3, budget_s=0.1, against=["torch"]
    )
    ours = [r for r in rows if r.runtime == "bitspike"]
    assert min(r.ratio for r in ours) == 1
    assert {r.name for r in rows if r.runtime == "torch"} == {"torch fp32", "torch fp32, as trained"}
    for row in rows:
        assert 0 < row.minimum_s <= row.median_s and row.rounds >= 5 and row.batch == 3
        assert (row.file_bytes == len(shipped.artifact)) == (row.runtime == "bitspike")
        if row.name != "torch fp32, as trained":
            assert row.agreement == 1 and row.compared == 6


@needs_onnx
def test_latency_with_onnx_on_frames() -> None:
    graph = random_graph(3, frames=3)
    data = artifact.encode(graph)
    rows = {r.name: r for r in measure_latency(data, random_samples(graph, 6), budget_s=0.1)}
    assert rows["ONNX Runtime fp32"].agreement == 1
    assert rows["ONNX Runtime fp32"].file_bytes and rows["ONNX Runtime int8"].file_bytes


@pytest.mark.parametrize("arguments", [{"against": ["tensorflow"]}, {"batch": 0}, {"threads": 0}])
def test_bad_arguments(shipped: Shipped, arguments: dict) -> None:
    with pytest.raises(ConfigError):
        measure_latency(shipped.artifact, shipped.samples, **arguments)


def test_missing_onnx_names_the_extra(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "find_spec", lambda package: None)
    assert rivals.available_rivals() == ("torch",)
    with pytest.raises(BitspikeError, match=r"bitspike\[export\]"):
        measure_latency(shipped.artifact, shipped.samples, against=["ort"])


def test_peak_memory(shipped: Shipped) -> None:
    rows = {r.name: r.peak_bytes for r in peak_memory(shipped.artifact, shipped.samples, against=["torch"])}
    assert rows["Python and numpy alone"] > 5e6
    assert rows["bitspike"] < rows["Python and numpy alone"] + 16e6
    assert rows["torch fp32"] > 2 * rows["bitspike"]
