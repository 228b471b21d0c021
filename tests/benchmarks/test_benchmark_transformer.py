"""The transformer that is timed has the size and the firing rates that its text promises."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import transformer as benchmark
from engine_groups import macs
from networks import smooth_images
from transformer_network import DIM, HEADS, SHAPE, TIME_STEPS, transformer

from bitspike import engine
from bitspike.deploy import artifact, ir, reference


@pytest.fixture(scope="module")
def graph() -> ir.Graph:
    return transformer(depth=1)


def test_binary_weights_of_the_published_network(graph: ir.Graph) -> None:
    """9,275,904 with four blocks: those of the tokenizer and four times those of a block."""
    tokenizer = 9 * (48 * 96 + 96 * 192 + 192 * 384 + 384 * 384)
    block = (4 + 2 * 4) * DIM**2
    binary = sum(n.weight.size for n in graph.nodes if isinstance(n, ir.Conv) and n.bits == 1)
    assert binary == tokenizer + block and tokenizer + 4 * block == 9_275_904


def test_attention_has_64_tokens_and_a_binary_map(graph: ir.Graph) -> None:
    shapes = ir.node_shapes(graph)
    products = [(n, shapes[i]) for i, n in enumerate(graph.nodes) if isinstance(n, ir.MatMul)]
    assert [shape for _, shape in products] == [(HEADS * 64, 8, 8), (DIM, 8, 8)]
    assert isinstance(graph.nodes[products[1][0].right], ir.Lif)
    length = DIM // HEADS
    assert benchmark.matrix_macs(graph) == TIME_STEPS * 2 * HEADS * 64 * 64 * length < 0.02 * macs(graph)


def test_neurons_fire_as_asked_and_the_engine_equals_the_reference(graph: ir.Graph) -> None:
    rates = [rate for node, rate in zip(graph.nodes, graph.rates, strict=True) if isinstance(node, ir.Lif)]
    assert all(0.1 < rate < 0.25 for rate in rates)
    samples = smooth_images(SHAPE, 1, seed=2)
    found = engine.load(artifact.encode(graph)).run(samples)
    assert (found == reference.run(graph, samples).logits).all()
