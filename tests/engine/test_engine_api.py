"""The Python face of the engine: arguments, errors, inspection, threads, and life without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from graphs import random_graph, random_samples, random_weight

from bitspike import engine
from bitspike.deploy import artifact, ir, reference
from bitspike.deploy.check import check, fits_int16
from bitspike.errors import ArtifactError, ConfigError


def network(frames: int = 1, time_steps: int = 3) -> tuple[ir.Graph, engine.Network]:
    """2x6x5 input, two 1-bit convolutions with a shortcut, 7 classes."""
    rng = np.random.default_rng(9)
    nodes: list[ir.Node] = [ir.Input(2, 6, 5, frames, (100, 120))]
    for source, sources in ((0, 1), (2, 2)):
        channels = 2 if source == 0 else 20
        nodes.append(ir.Conv(source, random_weight(rng, (20, channels, 3, 3), 1), 1, 1, 1))
        reads = (len(nodes) - 1, source)[:sources]
        arrays = (rng.integers(1, 4, (sources, 20)), rng.integers(-20, 20, 20), rng.integers(0, 90, 20))
        parameters = [a.astype(np.int32) for a in arrays]
        nodes.append(ir.Lif(reads, *parameters, np.zeros(20, np.uint8), 7, 1))
    nodes.append(ir.Readout(4, random_weight(rng, (7, 600), 4), np.arange(7, dtype=np.int32), 4))
    graph = ir.Graph(time_steps, nodes, ["in", "conv1", "lif1", "conv2", "lif2", "out"], [], {"task": "test"})
    return graph, engine.load(artifact.encode(graph))


def test_properties() -> None:
    graph, net = network()
    assert net.level in engine.levels() and engine.levels()[0] == "portable"
    assert (net.time_steps, net.input_shape, net.num_classes) == (3, (2, 6, 5), 7)
    assert net.names == graph.names and net.meta["task"] == "test" and net.test_vectors == 0
    assert net.artifact_bytes == len(artifact.encode(graph)) < net.memory_bytes < 1 << 20
    assert [node["op"] for node in net.nodes] == ["Input", "Conv", "Lif", "Conv", "Lif", "Readout"]
    assert net.nodes[4]["sources"] == (3, 2) and net.nodes[4]["shape"] == (20, 6, 5) and net.nodes[3]["bits"] == 1
    assert repr(net) == f"<bitspike network 2x6x5 -> 7, T=3, level {net.level}>"
    assert network(frames=3)[1].input_shape == (3, 2, 6, 5)


def test_fits_int16_agrees_with_the_writer() -> None:
    for seed in range(40):
        graph = random_graph(np.random.default_rng([seed, 21]))
        net, ranges = engine.load(artifact.encode(graph)), check(graph)
        expected = {net.names[i]: fits_int16(ranges[i]) for i, n in enumerate(graph.nodes) if isinstance(n, ir.Lif)}
        assert net.fits_int16.keys() == expected.keys()
        for name, fits in net.fits_int16.items():
            np.testing.assert_array_equal(fits, expected[name])


@pytest.mark.parametrize("frames", [1, 3])
def test_batches_single_samples_and_views(frames: int) -> None:
    graph, net = network(frames)
    rng = np.random.default_rng(0)
    x = random_samples(rng, graph, 5)
    expected = reference.run(graph, x)
    np.testing.assert_array_equal(net.run(x), expected.logits)
    np.testing.assert_array_equal(net.run(x[3]), expected.logits[3])
    np.testing.assert_array_equal(net.run_steps(x[3]), expected.steps[:, 3])
    np.testing.assert_array_equal(net.trace(x[3])["lif2"], expected.spikes[4][:, 3])
    assert net.run(x[3]).shape == (7,) and net.run_steps(x).shape == (3, 5, 7)
    np.testing.assert_array_equal(net.run(x[::-2]), expected.logits[::-2])
    np.testing.assert_array_equal(net.run(np.asfortranarray(x)), expected.logits)
    np.testing.assert_array_equal(net.run(x), net.run_steps(x).sum(0))


def test_no_samples() -> None:
    _, net = network()
    empty = np.empty((0, 2, 6, 5), np.uint8)
    assert net.run(empty).shape == (0, 7) and net.run(empty).dtype == np.int32
    assert net.run_steps(empty).shape == (3, 0, 7) and net.trace(empty)["lif1"].shape == (3, 0, 20, 6, 5)
    assert np.isnan(net.rates(empty)["lif1"])


def test_rates() -> None:
    graph, net = network()
    x = random_samples(np.random.default_rng(0), graph, 70)
    spikes = reference.run(graph, x).spikes
    assert net.rates(x) == pytest.approx({"lif1": spikes[2].mean(), "lif2": spikes[4].mean()})
    assert 0 < net.rates(x[0])["lif2"] < 1


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((4, 2, 6, 5), np.float32),
        ((4, 2, 6, 5), np.int8),
        ((4, 2, 5, 6), np.uint8),
        ((1, 1, 2, 6, 5), np.uint8),
        ((6, 5), np.uint8),
    ],
)
def test_wrong_samples_name_the_accepted_ones(shape: tuple[int, ...], dtype: type) -> None:
    _, net = network()
    for call in (net.run, net.run_steps, net.trace, net.rates):
        with pytest.raises(ValueError, match=r"uint8 \(N, 2, 6, 5\) or \(2, 6, 5\)") as caught:
            call(np.zeros(shape, dtype))
        assert str(shape) in str(caught.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    missing, garbage = tmp_path / "missing.bspk", tmp_path / "garbage.bspk"
    garbage.write_bytes(b"BSPK" + bytes(100))
    for path, reason in ((missing, "No such file"), (tmp_path, "directory"), (garbage, "header: ")):
        for source in (path, str(path)):
            with pytest.raises(ArtifactError, match=reason) as caught:
                engine.load(source)
            assert str(caught.value).startswith(str(path))
    with pytest.raises(ArtifactError, match="null"):
        engine.load("a\0b")
    with pytest.raises(ArtifactError, match="not a regular file"):
        engine.load("/dev/null")
    with pytest.raises(ArtifactError, match="104 bytes exceed the memory limit of 50 bytes"):
        engine.load(garbage, max_memory=50)


def test_load_from_a_file(tmp_path: Path) -> None:
    graph, net = network()
    artifact.save(graph, tmp_path / "net.bspk", random_samples(np.random.default_rng(0), graph, 2))
    loaded = engine.load(tmp_path / "net.bspk")
    assert loaded.self_test() == 2 and loaded.num_classes == net.num_classes


def test_levels_are_chosen_by_argument_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    data = artifact.encode(network()[0])
    for level in engine.levels():
        monkeypatch.setenv("BITSPIKE_LEVEL", level)
        assert engine.load(data).level == level
        assert engine.load(data, level="portable").level == "portable"
    monkeypatch.setenv("BITSPIKE_LEVEL", "neon")
    available = ", ".join(engine.levels())
    with pytest.raises(ConfigError, match=f"level is 'neon', available on this machine: {available}"):
        engine.load(data)
    with pytest.raises(ConfigError, match="level is 'AVX2'"):
        engine.load(data, level="AVX2")
    with pytest.raises(ConfigError, match="max_memory is -1"):
        engine.load(data, level="portable", max_memory=-1)


def test_concurrent_runs() -> None:
    graph, net = network()
    batches = [random_samples(np.random.default_rng(seed), graph, 40) for seed in range(6)]
    expected = [reference.run(graph, x) for x in batches]
    failures: list[str] = []

    def work(i: int) -> None:
        for _ in range(10):
            if not np.array_equal(net.run(batches[i]), expected[i].logits):
                failures.append(f"logits of thread {i}")
            if not np.array_equal(net.trace(batches[i][:5])["lif2"], expected[i].spikes[4][:, :5]):
                failures.append(f"spikes of thread {i}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_runs_without_torch(tmp_path: Path) -> None:
    graph, _ = network()
    artifact.save(graph, tmp_path / "net.bspk")
    code = (
        "import sys, numpy as np\n"
        "import bitspike.engine as engine\n"
        "net = engine.load(sys.argv[1])\n"
        "net.run(np.zeros((2, *net.input_shape), np.uint8)), net.self_test(), net.graph()\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'lightning_fabric'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net.bspk")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
