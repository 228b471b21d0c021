from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from measure_graphs import Shipped, attention_graph, random_graph, random_samples

from bitspike.deploy import artifact, reference
from bitspike.errors import BitspikeError, ConfigError
from bitspike.layers import mean_over_time
from bitspike.measure import measure_latency, peak_memory, rivals, torch_network
from bitspike.measure.torch_network import _attention as torch_attention

needs_onnx = pytest.mark.skipif("ort" not in rivals.available_rivals(), reason="onnx or onnxruntime is not installed")
needs_openvino = pytest.mark.skipif("openvino" not in rivals.available_rivals(), reason="openvino is not installed")


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_torch_network_equals_the_reference(seed: int, frames: int) -> None:
    graph = random_graph(seed, frames=frames)
    samples = random_samples(graph, 5, seed)
    found = torch_network(graph)(torch.from_numpy(samples).float())
    assert np.array_equal(found.numpy(), reference.run(graph, samples).logits)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("frames", [1, 3])
def test_torch_attention_equals_the_reference(frames: int, heads: int) -> None:
    graph = attention_graph(7, frames=frames, heads=heads)  # 6 x 4 products per head, or 30 x 6 scores
    samples = random_samples(graph, 5)
    result = reference.run(graph, samples)
    assert all(0.02 < spikes.mean() < 0.98 for spikes in result.spikes.values())
    found = torch_network(graph)(torch.from_numpy(samples).float())
    assert np.array_equal(found.numpy(), result.logits)


@pytest.mark.parametrize("tokens", [1, 40], ids=["scores first", "products first"])
def test_torch_attention_in_both_orders(tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    edges = [rng.integers(0, 2, (2, 3, *shape)) for shape in ((12, 1, tokens), (12, tokens, 1), (8, tokens, 1))]
    found = torch_attention(*(torch.from_numpy(e).flatten(0, 1).float() for e in edges), 2)
    assert np.array_equal(found.numpy(), reference._attention(*edges, 2).reshape(6, 8, 1, tokens))


@needs_onnx
@pytest.mark.parametrize("frames", [1, 3])
def test_onnx_equals_the_reference(frames: int, tmp_path) -> None:
    for graph in (random_graph(5, frames=frames), attention_graph(5, frames=frames)):
        samples = random_samples(graph, 4)
        rivals.onnx_float(graph, tmp_path / "a.onnx", 4)
        found = rivals.onnx_session(tmp_path / "a.onnx", 1)(samples.astype(np.float32))
        assert np.array_equal(found, reference.run(graph, samples).logits)


@needs_openvino
@pytest.mark.parametrize("frames", [1, 3])
def test_openvino_equals_the_torch_network(frames: int, tmp_path) -> None:
    graph = random_graph(5, frames=frames)
    samples = random_samples(graph, 4)
    rivals.onnx_float(graph, tmp_path / "a.onnx", 4)
    pixels = samples.astype(np.float32)
    found = rivals.openvino_session(tmp_path / "a.onnx", 1)(pixels)
    assert np.array_equal(found, torch_network(graph)(torch.from_numpy(pixels)).numpy())


@needs_openvino
def test_openvino_takes_channels_last(tmp_path) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(2, 3, 6, 7)
    rivals.onnx_export(conv, x, tmp_path / "conv.onnx")
    expected = conv(x).detach().numpy()
    call = rivals.openvino_session(tmp_path / "conv.onnx", 1, channels_last=("input", "output"))
    found = call(np.ascontiguousarray(np.moveaxis(x.numpy(), 1, -1)))
    assert np.allclose(np.moveaxis(found, -1, 1), expected, atol=1e-5)


@needs_openvino
def test_openvino_and_onnx_runtime_quantize_a_network_without_neurons_alike(shipped: Shipped, tmp_path) -> None:
    """Neurons turn a rounding into another spike, so int8 is compared where there are none."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 10)
    )
    exact, quantized = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    pixels = shipped.samples.astype(np.float32)
    rivals.onnx_export(network, torch.from_numpy(pixels[:1]), exact)
    rivals.onnx_int8(exact, quantized, shipped.samples, 1, operations=None)
    sessions = rivals.onnx_session(quantized, 1), rivals.openvino_session(quantized, 1)
    left, right = (np.concatenate([session(x[None]).copy() for x in pixels]) for session in sessions)
    expected = network(torch.from_numpy(pixels)).detach().numpy()
    spread = expected.std()
    assert np.abs(left - right).max() < 0.15 * spread
    assert (left.argmax(-1) == expected.argmax(-1)).mean() > 0.9
    assert (right.argmax(-1) == expected.argmax(-1)).mean() > 0.9


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_torch_compile_equals_the_reference() -> None:
    graph = random_graph(2)
    samples = random_samples(graph, 2)
    pixels = torch.from_numpy(samples).float()
    with torch.inference_mode():
        found = rivals.compiled(torch_network(graph), pixels)(pixels)
    assert np.array_equal(found.numpy(), reference.run(graph, samples).logits)


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
        assert 0 < row.minimum_s <= row.median_s <= row.maximum_s and row.rounds >= 5 and row.batch == 3
        assert row.dropped == 0 and row.clock == "CPU time"
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


@needs_openvino
def test_latency_with_openvino(shipped: Shipped) -> None:
    found = measure_latency(shipped.artifact, shipped.samples, batch=4, budget_s=0.1, against=["openvino"])
    rows = {r.name: r for r in found}
    kinds = ("fp32", "bf16", "int8")
    assert [r.name for r in found if r.runtime != "bitspike"] == [f"OpenVINO {kind}" for kind in kinds]
    assert rows["OpenVINO fp32"].agreement == 1
    assert rows["OpenVINO int8"].file_bytes < rows["OpenVINO fp32"].file_bytes


@pytest.mark.parametrize("arguments", [{"against": ["tensorflow"]}, {"batch": 0}, {"threads": 0}])
def test_bad_arguments(shipped: Shipped, arguments: dict) -> None:
    with pytest.raises(ConfigError):
        measure_latency(shipped.artifact, shipped.samples, **arguments)


@pytest.mark.parametrize(
    ("name", "missing", "extra"), [("ort", "onnxruntime", "export"), ("openvino", "openvino", "bench")]
)
def test_a_missing_package_names_the_extra(
    name: str, missing: str, extra: str, shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "find_spec", lambda package: None if package == missing else package)
    assert name not in rivals.available_rivals() and "torch" in rivals.available_rivals()
    message = rf"needs {missing}: pip install 'bitspike\[{extra}\]'"
    for measure in (measure_latency, peak_memory):
        with pytest.raises(BitspikeError, match=message):
            measure(shipped.artifact, shipped.samples, against=[name])
    assert f"bitspike[{extra}]" in rivals.missing_note()


def test_torch_compile_without_a_compiler_is_refused(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals.shutil, "which", lambda name: None)
    with pytest.raises(BitspikeError, match="needs a C\\+\\+ compiler"):
        measure_latency(shipped.artifact, shipped.samples, against=["compile"])


def test_peak_memory(shipped: Shipped) -> None:
    rows = {r.name: r.peak_bytes for r in peak_memory(shipped.artifact, shipped.samples, against=["torch"])}
    assert rows["Python and numpy alone"] > 5e6
    assert rows["bitspike"] < rows["Python and numpy alone"] + 16e6
    assert rows["torch fp32"] > 2 * rows["bitspike"]
