"""Streams, masks and products of spikes as C: sanitized, equal to the reference on every spike and logit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from c99_host import SANITIZED, build, compiler, expected, outputs
from stream_graphs import GRAPHS, samples
from test_deploy_transformers import FORMERS, Former

from bitspike.deploy import c99, compile, ir
from bitspike.errors import LoweringError

CC = compiler("gcc", "cc", "clang")
with_compiler = pytest.mark.skipif(CC is None, reason="no C compiler (gcc, cc or clang)")


def assert_exact(graph: ir.Graph, inputs: np.ndarray, folder: Path, *, streaming: bool = False) -> None:
    assert CC is not None
    got = outputs(build(graph, folder, CC, SANITIZED, streaming=streaming), inputs)
    assert got == expected(graph, inputs, streaming=streaming)


@with_compiler
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", GRAPHS)
def test_every_node(name: str, seed: int, tmp_path: Path) -> None:
    assert_exact(GRAPHS[name](seed), samples(seed), tmp_path)


@with_compiler
@pytest.mark.parametrize("former", FORMERS[1::3], ids=str)
def test_transformers(former: Former, tmp_path: Path) -> None:
    inputs = former.samples(2)
    assert_exact(compile(former.build(), inputs).graph, inputs.numpy(), tmp_path)


@with_compiler
def test_a_stream_of_currents_is_stepped(tmp_path: Path) -> None:
    former = Former("spikingformer", {"downsampling": "currents", "T": 4})
    inputs = former.samples(2)
    assert_exact(compile(former.build(), inputs).graph, inputs.numpy(), tmp_path, streaming=True)


@pytest.mark.parametrize("name, message", [("streams", r"'node 5' \(Stream\)"), ("mixing", r"'node 2' \(Mix\)")])
def test_what_differs_from_step_to_step_is_not_stepped(name: str, message: str) -> None:
    with pytest.raises(LoweringError, match=rf"{message} differs from step to step, accepted: streaming=False"):
        c99.footprint(GRAPHS[name](0), streaming=True)


def test_memory_of_streams_is_counted() -> None:
    """Two bytes for each value that fits 16 bits, four for others."""
    graph = GRAPHS["streams"](0)
    narrow = c99.footprint(graph).edges
    stream = graph.nodes[8]
    assert isinstance(stream, ir.Stream)
    sixteen = ir.Stream(stream.sources, stream.multiplier, stream.bias, stream.shift, 16)
    wide = ir.Stream(stream.sources, 3000 * stream.multiplier, stream.bias, stream.shift, 24)
    assert c99.footprint(ir.Graph(3, [*graph.nodes[:8], sixteen, *graph.nodes[9:]])).edges == narrow
    assert c99.footprint(ir.Graph(3, [*graph.nodes[:8], wide, *graph.nodes[9:]])).edges > narrow
