"""Stream and attention nodes: the reference against loops over single values, their rules, bounds and records."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stream_graphs import GRAPHS, STEPS, attention, mixing, samples, stream, streams
from stream_naive import naive
from test_deploy_artifact import Cursor

from bitspike.deploy import artifact, ir, reference
from bitspike.deploy.check import check
from bitspike.errors import LoweringError


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", GRAPHS)
def test_the_reference_equals_loops_over_single_values(name: str, seed: int) -> None:
    graph, inputs = GRAPHS[name](seed), samples(seed)
    check(graph)
    result = reference.run(graph, inputs)
    for n, sample in enumerate(inputs):
        logits, spikes = naive(graph, sample)
        assert result.logits[n].tolist() == logits
        assert result.spikes.keys() == spikes.keys()
        for index, expected in spikes.items():
            np.testing.assert_array_equal(result.spikes[index][:, n], expected, err_msg=f"node {index}")


@pytest.mark.parametrize("name", GRAPHS)
def test_spikes_of_the_graphs_are_neither_all_nor_none(name: str) -> None:
    """Otherwise the comparison above would say little."""
    rates = [s.mean() for seed in range(4) for s in reference.run(GRAPHS[name](seed), samples(seed)).spikes.values()]
    assert np.mean([0.02 < rate < 0.98 for rate in rates]) > 0.7


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GRAPHS)
def test_bounds_hold_for_every_edge(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = GRAPHS[name](seed)
    ranges = check(graph)
    seen: list[np.ndarray] = []
    original = reference.run_stream_node

    def watch(node: Any, edges: Any) -> np.ndarray:
        seen[:] = [*edges, original(node, edges)]
        return seen[-1]

    monkeypatch.setattr(reference, "run_stream_node", watch)
    reference.run(graph, samples(seed))
    for bounds, edge in zip(ranges, seen, strict=False):
        assert (edge.min((0, 1, 3, 4)) >= bounds.low).all() and (edge.max((0, 1, 3, 4)) <= bounds.high).all()


def test_bounds_of_a_stream_are_its_clipped_ends() -> None:
    node = ir.Stream((0,), np.array([[[3, -1]]], np.int32), np.array([5, 0], np.int32), np.array([1, 2], np.uint8), 8)
    graph = ir.Graph(
        1, [ir.Input(2, 1, 1, 1, (0, 10)), node, ir.Readout(1, np.ones((1, 2), np.int8), np.zeros(1, np.int32), 8)]
    )
    bounds = check(graph)[1]
    assert (bounds.low.tolist(), bounds.high.tolist()) == ([3, -61], [127, 3])


BROKEN: dict[str, tuple[Callable[[int], ir.Graph], int, dict[str, Any], str]] = {
    "stream-no-source": (streams, 2, {"sources": ()}, "1 to 4 sources"),
    "stream-five-sources": (streams, 8, {"sources": (2, 2, 2, 2, 2)}, "1 to 4 sources"),
    "stream-shapes": (streams, 5, {"sources": (2, 0)}, "of one shape"),
    "stream-multiplier": (streams, 5, {"multiplier": np.ones((2, 4), np.int32)}, r"multiplier has shape \(2, 4\)"),
    "stream-steps": (streams, 5, {"multiplier": np.ones((2, 2, 4), np.int32)}, "for 2 steps, accepted: 1 or 3"),
    "stream-bias": (streams, 5, {"bias": np.ones(3, np.int32)}, r"bias has shape \(3,\), expected \(4,\)"),
    "stream-shift": (streams, 5, {"shift": np.full(4, 31, np.uint8)}, "shift is 31, accepted: 0 to 30"),
    "stream-bits": (streams, 5, {"bits": 25}, "bits is 25, accepted: 2 to 24"),
    "stream-one-bit": (streams, 5, {"bits": 1}, "bits is 1, accepted: 2 to 24"),
    "stream-product": (streams, 2, {"multiplier": np.full((1, 1, 4), 10**7, np.int32)}, "beyond 32 bits"),
    "stream-product-of-a-step": (
        streams, 5, {"multiplier": np.array([[[1] * 4, [10**8] * 4, [1] * 4]] * 2, np.int32)}, "beyond 32 bits",
    ),
    "stream-rounding": (
        streams, 2, {"bias": np.full(4, 2**31 - 2**29, np.int32), "shift": np.full(4, 30, np.uint8)}, "beyond 32 bits",
    ),
    "conv-reads-stream": (streams, 4, {"source": 2}, "reads an edge of kind stream"),
    "add-reads-stream": (streams, 6, {"left": 2}, "reads an edge of kind stream"),
    "max-pool-reads-spikes": (streams, 9, {"source": 7}, "reads an edge of kind spikes, accepted: stream"),
    "max-pool-window": (streams, 9, {"kernel": 6}, r"window 6 is larger than \(4, 5, 3\)"),
    "max-pool-padding": (streams, 9, {"padding": 3}, "kernel, stride or padding"),
    "concat-kinds": (streams, 17, {"sources": (19, 14)}, "must be earlier"),
    "concat-of-two-kinds": (streams, 25, {"sources": (24, 13)}, "of one shape"),
    "concat-one": (streams, 14, {"sources": (11,)}, "1 sources, accepted: 2 to 4"),
    "concat-sizes": (streams, 14, {"sources": (11, 9)}, "one height and width"),
    "readout-of-a-stream": (streams, 26, {"bias": np.full(5, 2**30, np.int32)}, "beyond 32 bits"),
    "reduce-axis": (attention, 16, {"axis": "heads"}, "axis is 'heads', accepted: channels, tokens, both"),
    "reduce-heads": (attention, 16, {"heads": 3}, "3 heads do not divide 10 channels"),
    "reduce-token-heads": (attention, 19, {"heads": 2}, "heads is 2, accepted over tokens: 1"),
    "reduce-current": (attention, 19, {"source": 9}, "reads an edge of kind current"),
    "reduce-stream": (attention, 16, {"source": 14}, "sums stream over channels"),
    "gate-masks": (attention, 18, {"gate": 4}, "6 masks do not divide 10 channels"),
    "gate-size": (attention, 21, {"gate": 12}, r"masks of \[3, 1\] pixels, accepted: \[5, 3\] or \[1, 1\]"),
    "matmul-transpose": (attention, 9, {"transpose": "both"}, "transpose is 'both', accepted: none, left, right"),
    "matmul-heads": (attention, 9, {"heads": 4}, "4 heads do not divide 10 and 30 channels"),
    "matmul-sums": (attention, 9, {"transpose": "left"}, "left has 5 values to sum over, right 15"),
    "matmul-current": (attention, 9, {"left": 5}, "reads an edge of kind current"),
    "mix-weight": (mixing, 2, {"weight": np.ones((3, 3), np.int32)}, "above the diagonal"),
    "mix-shape": (mixing, 2, {"weight": np.eye(2, dtype=np.int32)}, r"weight \(2, 2\), threshold \(3,\)"),
    "mix-steps": (
        mixing, 2, {"weight": np.eye(2, dtype=np.int32), "threshold": np.ones(2, np.int32)}, "for 2 steps, accepted: 3",
    ),
    "mix-overflow": (mixing, 2, {"weight": 10**7 * np.eye(3, dtype=np.int32)}, "beyond 32 bits"),
    "product-shape": (mixing, 7, {"right": 5}, r"right has shape \(2, 5, 3\), expected \(2, 1, 1\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rules_are_named(name: str) -> None:
    make, index, changes, message = BROKEN[name]
    graph = make(0)
    graph.nodes[index] = dataclasses.replace(graph.nodes[index], **changes)
    with pytest.raises(LoweringError, match=rf"node {index} \(.*{message}"):
        check(graph)


def test_concat_refuses_edges_of_two_kinds() -> None:
    graph = streams(0)
    graph.nodes[17] = ir.Concat((14, 16))
    graph.nodes[14] = ir.Concat((11, 11))
    rng = np.random.default_rng(0)
    nodes = [*graph.nodes[:4], ir.Concat((2, 3)), stream(rng, 8, 4), graph.nodes[-1]]
    with pytest.raises(LoweringError, match=r"node 4 \(Concat\): reads stream, spikes, accepted: edges of one kind"):
        check(ir.Graph(STEPS, nodes))


OPERATIONS = {
    ir.Stream: 9,
    ir.MaxPool: 10,
    ir.Reduce: 11,
    ir.Gate: 12,
    ir.MatMul: 13,
    ir.Concat: 14,
    ir.Mix: 15,
    ir.Product: 16,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_records_and_parameters_follow_the_format(name: str) -> None:
    """An independent walk of docs/format.md over what stands in version 1.3."""
    graph = GRAPHS[name](1)
    data = artifact.encode(graph, samples(1, 2))
    assert data[:8] == b"BSPK" + struct.pack("<HH", 1, 3)
    bodies = {}
    for i in range(struct.unpack_from("<I", data, 16)[0]):
        kind, _, offset, size, _, _ = struct.unpack_from("<IIQQII", data, 24 + 32 * i)
        bodies[kind] = data[offset : offset + size]
    params = Cursor(bodies[2])
    for index, (node, shape) in enumerate(zip(graph.nodes, ir.node_shapes(graph), strict=True)):
        words = struct.unpack_from("<16I", bodies[1], 8 + 64 * index)
        sources = struct.unpack_from("<2i", bodies[1], 8 + 64 * index + 4)
        assert words[3:6] == shape
        codes = [(words[15] >> 4 * i) & 15 for i in range(8)]
        for code, values in zip(codes, parameters(node), strict=False):
            np.testing.assert_array_equal(params.array(code, values.size), values.reshape(-1))
        if type(node) not in OPERATIONS:
            continue
        assert words[0] == OPERATIONS[type(node)]
        expected: dict[int, int] = {}
        read = [*ir.sources(node), -1, -1, -1]
        match node:
            case ir.Stream():
                expected = {11: node.bits, 12: node.multiplier.shape[1], 13: read[3] % 2**32, 14: read[2] % 2**32}
            case ir.Concat():
                expected = {13: read[3] % 2**32, 14: read[2] % 2**32}
            case ir.MaxPool():
                expected = {6: node.kernel, 7: node.kernel, 8: node.stride, 9: node.padding}
            case ir.Reduce():
                expected = {10: node.heads, 12: {"channels": 1, "tokens": 2, "both": 3}[node.axis]}
            case ir.MatMul():
                expected = {10: node.heads, 12: {"none": 0, "left": 1, "right": 2}[node.transpose]}
        assert sources == tuple(read[:2])
        assert {i: w for i, w in enumerate(words[6:15], 6) if w} == {i: w for i, w in expected.items() if w}
    assert params.position == len(bodies[2])


def parameters(node: ir.Node) -> list[np.ndarray]:
    match node:
        case ir.Input():
            return [np.asarray(node.zero_point)]
        case ir.Lif():
            return [*node.multiplier, node.bias, node.threshold, node.membrane_shift]
        case ir.Readout():
            return [node.bias]
        case ir.Stream():
            return [*node.multiplier, node.bias, node.shift]
        case ir.Mix():
            return [node.weight, node.threshold]
        case _:
            return []
