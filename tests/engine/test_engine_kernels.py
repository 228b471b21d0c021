"""Families of kernels: which is used where, how it is asked for, how it is tuned. That all agree: test_engine_exact."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from graphs import random_weight

from bitspike import engine
from bitspike.deploy import artifact, ir, reference
from bitspike.engine import tuning
from bitspike.errors import ConfigError

CHANNELS = 64


def layer_graph(bits: int, rate: float, side: int = 12, steps: int = 4, *, odd: bool = False) -> ir.Graph:
    """Frames -> spikes -> one 3x3 layer; the rates written into the file say that its source fires at ``rate``."""
    rng = np.random.default_rng(0)
    ones, zero = np.ones((1, CHANNELS), np.int32), np.zeros(CHANNELS, np.int32)

    def lif(source: int, threshold: int) -> ir.Lif:
        return ir.Lif((source,), ones, zero, np.full(CHANNELS, threshold, np.int32), zero.astype(np.uint8), 16, 1)

    nodes: list[ir.Node] = [
        ir.Input(2, side, side, steps, (0, 0)),
        ir.Conv(0, random_weight(rng, (CHANNELS, 2, 1, 1), 2), 2),
        lif(1, 100),
        ir.Conv(2, random_weight(rng, (CHANNELS, CHANNELS, 3, 3), bits, odd=odd), bits, padding=1, odd=odd),
        lif(3, 20),
        ir.Readout(4, random_weight(rng, (10, CHANNELS), 8), np.zeros(10, np.int32), 8, True),
    ]
    names = ["input", "conv0", "spikes", "conv", "lif", "readout"]
    return ir.Graph(steps, nodes, names, [np.nan, np.nan, rate, np.nan, np.nan, np.nan])


def samples(graph: ir.Graph, count: int = 1) -> np.ndarray:
    shape = (count, graph.input.frames, graph.input.channels, graph.input.height, graph.input.width)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "level", [level for level in engine.levels() if level != "portable"]
)  # there events always win
def test_layers_that_hardly_fire_follow_spikes(level: str) -> None:
    quiet, busy = (
        engine.load(artifact.encode(layer_graph(4, rate)), level=level).kernels["conv"] for rate in (0.001, 0.9)
    )
    assert quiet == "events" and busy != "events"


def test_what_reads_no_spikes_has_no_choice() -> None:
    assert set(engine.load(artifact.encode(layer_graph(4, 0.1))).kernels) == {"conv"}


@pytest.mark.parametrize("level", engine.levels())
@pytest.mark.parametrize("family", engine.kernel_families())
def test_a_family_can_be_asked_for(level: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = artifact.encode(layer_graph(4, 0.1))
    expected = family if family != "tables" or level != "portable" else None
    for net in (
        engine.load(data, level=level, kernels=family),
        engine.load(data, level=level, kernels={"conv": family}),
        (monkeypatch.setenv("BITSPIKE_KERNELS", family), engine.load(data, level=level))[1],
    ):
        assert net.kernels["conv"] == expected if expected else net.kernels["conv"] in ("planes", "events")


@pytest.mark.parametrize("family", engine.kernel_families())
def test_odd_levels_have_all_families_but_at_8_bits(family: str) -> None:
    for bits in (2, 7, 8):
        net = engine.load(artifact.encode(layer_graph(bits, 0.1, odd=True)), kernels=family)
        possible = family if bits < 8 and (family != "tables" or net.level != "portable") else "planes"
        assert net.kernels["conv"] in ((possible, "events") if family == "tables" else (possible,))


def test_bad_requests_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = artifact.encode(layer_graph(4, 0.1))
    with pytest.raises(ConfigError, match="'tabels', accepted: planes, events, tables"):
        engine.load(data, kernels="tabels")
    with pytest.raises(ConfigError, match="'convolution', accepted: conv"):
        engine.load(data, kernels={"convolution": "planes"})
    with pytest.raises(ConfigError, match="threads are 0"):
        engine.load(data).run(samples(layer_graph(4, 0.1)), threads=0)
    monkeypatch.setenv("BITSPIKE_KERNELS", "fast")
    with pytest.raises(ConfigError, match="'fast'"):
        engine.load(data)


def test_profile_times_every_node() -> None:
    graph = layer_graph(2, 0.1)
    net = engine.load(artifact.encode(graph))
    seconds = net.profile(samples(graph)[0], repeats=3)
    assert list(seconds) == graph.names and seconds["lif"] > 0 and all(s >= 0 for s in seconds.values())


def test_autotune_remembers_its_choice(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    graph = layer_graph(4, 0.1)
    data = artifact.encode(graph)
    choice = engine.autotune(data, repeats=2)
    assert list(choice) == ["conv"] and engine.load(data, kernels=choice).kernels == choice
    (kept,) = tuning.cache_folder().glob("*.json")
    other = next(f for f in engine.kernel_families() if f != choice["conv"])
    kept.write_text(json.dumps({"conv": other}))
    assert engine.autotune(data) == {"conv": other}, "the remembered choice is not used"
    kept.write_text("{damaged")
    assert engine.autotune(data, repeats=2)["conv"] in engine.kernel_families()
    assert engine.autotune(data, samples(graph)[0], cache=False, repeats=2).keys() == {"conv"}


def test_concurrent_runs_with_threads_agree() -> None:
    graph = layer_graph(4, 0.1)
    x = samples(graph, 4)
    expected = reference.run(graph, x).logits
    net = engine.load(artifact.encode(graph))
    wrong: list[str] = []

    def work(threads: int) -> None:
        for _ in range(60):
            if not (
                np.array_equal(net.run(x, threads=threads), expected) and np.array_equal(net.run(x[0]), expected[0])
            ):
                wrong.append(f"{threads} threads")

    workers = [threading.Thread(target=work, args=(1 + i % 3,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
