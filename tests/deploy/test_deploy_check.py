"""The graph's rules, each broken once, and the proofs that integers fit, against brute force."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from graph_parts import i32, lif, ones

from bitspike.deploy import ir, reference
from bitspike.deploy.check import check
from bitspike.errors import LoweringError


def every_node() -> ir.Graph:
    """One valid graph with every node type: 2x8x6 input, two frames, 5 classes."""
    return ir.Graph(
        2,
        [
            ir.Input(2, 8, 6, 2, (3, 255)),
            ir.Conv(0, ones(4, 2, 3, 3), 1, 1, 1),  # 1
            lif((1,), 4),  # 2
            ir.OrPool(2, 2, 2),  # 3: 4x4x3
            ir.Conv(3, ones(4, 2, 3, 3), 8, 1, 1, groups=2),  # 4
            lif((4, 3), 4),  # 5
            ir.Add(5, 3),  # 6
            ir.SumPool(6, 2, 2),  # 7: 4x2x1
            ir.Linear(7, ones(6, 8), 4),  # 8: 6x1x1
            lif((8,), 6),  # 9
            ir.Readout(9, ones(5, 6), np.zeros(5, np.int32), 8),
        ],
        ["input", "a.conv", "a", "pool", "b.conv", "b", "sew", "sum", "c.linear", "c", "readout"],
    )


def broken(index: int, **changes: Any) -> ir.Graph:
    graph = every_node()
    graph.nodes[index] = dataclasses.replace(graph.nodes[index], **changes)
    return graph


def test_valid_graph_and_its_kinds() -> None:
    ranges = check(every_node())
    assert [r.kind for r in ranges] == [
        "input", "current", "spikes", "spikes", "current", "spikes", "counts", "counts", "current", "spikes", "logits",
    ]  # fmt: skip
    assert (ranges[0].low.tolist(), ranges[0].high.tolist()) == ([-3, -255], [252, 0])
    assert (ranges[1].low[0], ranges[1].high[0]) == (9 * (-3 - 255), 9 * 252)
    assert ranges[6].high.tolist() == [2] * 4 and ranges[7].high.tolist() == [8] * 4
    assert ranges[8].high.tolist() == [64] * 6 and ranges[10].high.tolist() == [12] * 5
    assert ir.node_shapes(every_node())[3:8] == [(4, 4, 3), (4, 4, 3), (4, 4, 3), (4, 4, 3), (4, 2, 1)]


BROKEN: dict[str, tuple[int, dict[str, Any], str]] = {
    "input-zero-points": (0, {"zero_point": (3,)}, "one zero point per channel"),
    "input-zero-point-range": (0, {"zero_point": (3, 256)}, r"\(3, 256\) must be 0 to 255"),
    "input-frames": (0, {"frames": 3}, "frames is 3, accepted: 1 or 2"),
    "input-size": (0, {"height": 70000}, "70000"),
    "conv-forward-source": (1, {"source": 1}, "must be earlier nodes"),
    "conv-negative-source": (1, {"source": -1}, "must be earlier nodes"),
    "conv-reads-current": (4, {"source": 1}, "reads an edge of kind current"),
    "conv-groups": (4, {"groups": 3}, "4 output channels do not divide into 3 groups"),
    "conv-channels": (1, {"weight": ones(4, 3, 3, 3)}, "does not fit 2 channels"),
    "conv-stride": (1, {"stride": 0}, "stride 0"),
    "conv-padding": (1, {"padding": 3}, "padding 3"),
    "conv-kernel": (4, {"weight": ones(4, 2, 9, 3), "padding": 0}, "kernel is larger"),
    "conv-1bit-zero": (1, {"weight": 0 * ones(4, 2, 3, 3)}, "1-bit weights must be -1 or"),
    "conv-bits": (1, {"bits": 9}, "weight bits is 9, accepted: 1 to 8"),
    "conv-no-bits": (1, {"bits": 0}, "weight bits is 0"),
    "conv-lowest": (4, {"weight": -128 * ones(4, 2, 3, 3)}, "8-bit weights must lie within ±127"),
    "linear-features": (8, {"weight": ones(6, 9)}, r"weight \(6, 9\) on source \(4, 2, 1\)"),
    "linear-range": (8, {"weight": 8 * ones(6, 8)}, "4-bit weights must lie within ±7"),
    "linear-reads-current": (8, {"source": 4}, "reads an edge of kind current"),
    "lif-reads-input": (2, {"sources": (0,)}, "reads an edge of kind input"),
    "lif-shapes": (5, {"sources": (4, 2)}, "of one shape"),
    "lif-no-source": (2, {"sources": ()}, ""),
    "lif-multiplier": (2, {"multiplier": np.ones((1, 3), np.int32)}, r"multiplier \(1, 3\)"),
    "lif-bias": (2, {"bias": i32(1)}, r"bias has shape \(1,\), expected \(4,\)"),
    "lif-threshold": (2, {"threshold": i32(1, 2, 3)}, "threshold has shape"),
    "lif-shift-shape": (2, {"membrane_shift": np.zeros(5, np.uint8)}, "membrane_shift has shape"),
    "lif-shift": (2, {"membrane_shift": np.full(4, 25, np.uint8)}, "membrane_shift is at most 24"),
    "lif-bits-low": (2, {"membrane_bits": 1}, "membrane_bits is 1, accepted: 2 to 16"),
    "lif-bits-high": (2, {"membrane_bits": 17}, "membrane_bits is 17, accepted: 2 to 16"),
    "lif-leak": (2, {"leak_shift": 16}, "leak_shift is 16, accepted: 0 to 15"),
    "lif-product": (2, {"multiplier": np.full((1, 4), 10**6, np.int32)}, r"channel 0 reaches \[-?\d+, \d+\]"),
    "lif-carry": (2, {"membrane_bits": 16, "membrane_shift": np.full(4, 17, np.uint8)}, "beyond 32 bits"),
    "lif-soft-reset": (
        2, {"soft_reset": True, "threshold": np.full(4, 2**31 - 1, np.int32)}, "beyond 32 bits"
    ),
    "or-kernel": (3, {"kernel": 0}, "kernel, stride or padding"),
    "or-padding": (3, {"padding": 2}, "kernel, stride or padding"),
    "or-window": (3, {"kernel": 7}, "window 7 is larger"),
    "or-reads-counts": (3, {"source": 1}, "reads an edge of kind current"),
    "sum-stride": (7, {"stride": 0}, "kernel, stride or padding"),
    "sum-window": (7, {"kernel": 4}, "window 4 is larger"),
    "add-shapes": (6, {"right": 2}, r"shapes \(4, 4, 3\) and \(4, 8, 6\) differ"),
    "add-reads-current": (6, {"right": 4}, "reads an edge of kind current"),
    "readout-features": (10, {"weight": ones(5, 7)}, r"weight \(5, 7\) on 6 features"),
    "readout-bias": (10, {"bias": i32(0, 0)}, r"bias \(2,\) for 5 classes"),
    "readout-bits": (10, {"bits": 12}, "weight bits is 12"),
    "readout-range": (10, {"bias": np.full(5, 2**30, np.int32)}, "beyond 32 bits"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rule_names_the_node(case: str) -> None:
    index, changes, message = BROKEN[case]
    graph = broken(index, **changes)
    name = f"node {index} \\({type(graph.nodes[index]).__name__} '{graph.names[index]}'\\)"
    with pytest.raises(LoweringError, match=f"^{name}: .*{message}"):
        check(graph)
    graph.names = []
    with pytest.raises(LoweringError, match=f"^node {index} \\({type(graph.nodes[index]).__name__}\\): "):
        check(graph)


def counting(kernel: int) -> ir.Graph:
    return ir.Graph(1, [
        ir.Input(1, 17, 17, 1, (0,)),
        ir.Conv(0, ones(1, 1, 1, 1), 1),
        lif((1,), 1),
        ir.SumPool(2, kernel, 1),
        ir.Readout(3, ones(2, 1), i32(0, 0), 8, pool=True),
    ])  # fmt: skip


def test_counts_must_fit_a_byte() -> None:
    assert check(counting(15))[3].high.tolist() == [225]
    with pytest.raises(LoweringError, match=r"node 3 \(SumPool\): counts reach 256, at most 255"):
        check(counting(16))


def attending(**changes: Any) -> ir.Graph:
    """Attention of 4-channel queries on 3x2 pixels, keys on 2x1 and 6-channel values; 2 heads, 2 steps."""
    attention = dataclasses.replace(ir.Attention(2, 3, 5, 2), **changes)
    return ir.Graph(
        2,
        [
            ir.Input(2, 3, 2, 2, (90, 120)),
            ir.Conv(0, np.array([[3, -2], [-1, 2], [1, 1], [-2, -1]], np.int8).reshape(4, 2, 1, 1), 3),
            lif((1,), 4),  # 2: query
            ir.OrPool(2, 2, 1),  # 3: key
            ir.Conv(3, (ones(6, 1, 1, 1) * [1, -1, 1, 1]).reshape(6, 4, 1, 1).astype(np.int8), 1),
            lif((4,), 6, threshold=i32(1, 2, 1, 0, 1, 2)),  # 5: value
            attention,  # 6
            lif((6,), 6, threshold=i32(1, 2, 3, 4, 1, 2)),
            ir.Readout(7, ones(3, 36), np.zeros(3, np.int32), 4),
        ],
        ["input", "q.conv", "q", "k", "v.conv", "v", "attention", "neurons", "readout"],
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"query": 1}, "reads an edge of kind current, accepted: spikes"),
        ({"value": 0}, "reads an edge of kind input"),
        ({"key": 6}, "must be earlier nodes"),
        ({"key": 5}, "query has 4 channels, key 6"),
        ({"value": 2}, r"key has \(2, 1\) pixels, value \(3, 2\)"),
        ({"heads": 0}, "0 heads do not divide 4 key and 6 value channels"),
        ({"heads": 3}, "3 heads do not divide 4"),
        ({"heads": 4}, "4 heads do not divide 4 key and 6"),
    ],
    ids=str,
)
def test_attention_rules(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LoweringError, match=f"^node 6 \\(Attention 'attention'\\): .*{message}"):
        check(attending(**changes))


def test_attention_bounds_are_reached_and_fit() -> None:
    graph = attending()
    bounds = check(graph)[6]
    assert bounds.kind == "current" and bounds.low.tolist() == [0] * 6 and bounds.high.tolist() == [2 * 2] * 6
    assert ir.node_shapes(graph)[6] == (6, 3, 2)
    full = [np.ones((1, 1, *ir.node_shapes(graph)[s]), np.int64) for s in (2, 3, 5)]
    assert (reference._attention(*full, 2) == 4).all()
    graph = attending(query=2, key=2, value=2, heads=1)
    graph.nodes[0] = ir.Input(2, 30000, 30000, 2, (0, 0))
    with pytest.raises(LoweringError, match=r"node 6 .*reaches \[0, 3600000000\], beyond 32 bits"):
        check(graph)


def test_attention_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.integers(0, 2, (2, 3, *shape)) for shape in ((6, 2, 3), (6, 1, 4), (4, 1, 4)))
    current = reference._attention(q, k, v, 2)
    assert current.shape == (2, 3, 4, 2, 3)
    for t, n, c, y, x in np.ndindex(*current.shape):
        head = range(3 * (c // 2), 3 * (c // 2) + 3)
        keys = range(4)
        expected = sum(q[t, n, i, y, x] * sum(k[t, n, i, 0, m] * v[t, n, c, 0, m] for m in keys) for i in head)
        assert current[t, n, c, y, x] == expected


GRAPHS = {
    "no-steps": (lambda g: setattr(g, "time_steps", 0), "time_steps is 0, accepted: 1 to 1024"),
    "many-steps": (lambda g: setattr(g, "time_steps", 1025), "time_steps is 1025"),
    "one-node": (lambda g: setattr(g, "nodes", g.nodes[:1]), "2 to 4096 nodes, this one 1"),
    "no-readout": (lambda g: (g.nodes.pop(), g.names.pop()), "the last, and only it, a Readout"),
    "two-inputs": (
        lambda g: (g.nodes.insert(1, g.nodes[0]), g.names.insert(1, "again")),
        "node 1 .*the first node, and only it",
    ),
    "input-missing": (lambda g: (g.nodes.pop(0), g.names.pop(0)), "node 0 .*the first node"),
    "unused": (
        lambda g: (g.nodes.insert(10, lif((8,), 6)), g.names.insert(10, "idle")),
        r"nodes \[9\] are never used|never used",
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_broken_graph(case: str) -> None:
    change, message = GRAPHS[case]
    graph = every_node()
    change(graph)
    with pytest.raises(LoweringError, match=message):
        check(graph)


@pytest.mark.parametrize("field", ["names", "rates"])
def test_names_and_rates_are_one_per_node(field: str) -> None:
    graph = every_node()
    setattr(graph, field, [0.5, 0.5] if field == "rates" else ["a", "b"])
    with pytest.raises(LoweringError, match=f"2 {field} for {len(graph.nodes)} nodes"):
        check(graph)
