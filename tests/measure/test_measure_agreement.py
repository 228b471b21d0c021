from __future__ import annotations

import copy

import numpy as np
from measure_graphs import Shipped, random_graph, random_samples

from bitspike import engine
from bitspike.deploy import artifact, reference
from bitspike.measure import agreement, agreement_table, exact_outputs, spike_raster


def test_all_executors_agree(shipped: Shipped) -> None:
    rows = agreement_table(shipped.artifact, shipped.samples, shipped.exact, reference_samples=10)
    assert [r.right for r in rows] == ["numpy reference", *(f"engine, {level}" for level in engine.levels())]
    assert [r.samples for r in rows] == [10] + [48] * len(engine.levels())
    neurons = 3 * (12 * 64 + 18 * 16)
    assert [(r.spikes, r.logits) for r in rows] == [(n * neurons, n * 10) for n in (r.samples for r in rows)]
    assert not any(r.differing_spikes or r.differing_logits for r in rows)


def test_small_batches_give_the_same_counts(shipped: Shipped, monkeypatch) -> None:
    whole = agreement_table(shipped.artifact, shipped.samples[:7], shipped.exact)
    monkeypatch.setattr(agreement, "SPIKE_BYTES", 7000)
    monkeypatch.setattr(agreement, "PATCH_BYTES", 1)
    assert agreement_table(shipped.artifact, shipped.samples[:7], shipped.exact) == whole


def test_a_difference_is_counted(shipped: Shipped) -> None:
    changed = copy.deepcopy(shipped.exact)
    bias = changed.source.readout.layer.bias
    bias.data[3] += 1
    rows = agreement_table(shipped.artifact, shipped.samples[:5], changed, levels=engine.levels()[:1])
    assert [r.differing_logits for r in rows] == [5, 5]
    assert not any(r.differing_spikes for r in rows)


def test_without_a_model_the_reference_is_the_measure() -> None:
    graph = random_graph(1, frames=3)
    rows = agreement_table(artifact.encode(graph), random_samples(graph, 4))
    assert {r.left for r in rows} == {"numpy reference"}
    assert not any(r.differing_spikes or r.differing_logits for r in rows)


def test_exact_outputs_are_the_references(shipped: Shipped) -> None:
    logits, spikes = exact_outputs(shipped.exact, shipped.graph, shipped.samples[:3])
    expected = reference.run(shipped.graph, shipped.samples[:3])
    assert np.array_equal(logits, expected.logits)
    assert all(np.array_equal(spikes[i], s) for i, s in expected.spikes.items())


def test_raster_shows_real_spikes(shipped: Shipped) -> None:
    trace = reference.run(shipped.graph, shipped.samples[:2]).spikes
    layers = spike_raster(shipped.graph, trace, sample=1, neurons=64)
    assert [(layer.name, layer.neurons, layer.shown) for layer in layers] == [
        ("features.0", 768, 64),
        ("features.2", 288, 64),
    ]
    shown = np.linspace(0, 767, 64).round().astype(int)
    first = trace[min(trace)][:, 1].reshape(3, -1)
    assert layers[0].spikes == [np.flatnonzero(step[shown]).tolist() for step in first]
    assert layers[0].rate == first.mean()
