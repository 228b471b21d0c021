"""Whether a graph that was read back is the one that was written."""

from __future__ import annotations

import numpy as np

from bitspike.deploy import ir


def assert_same_nodes(loaded: ir.Graph, graph: ir.Graph) -> None:
    """Node by node and field by field, types and shapes included."""
    for expected, node in zip(graph.nodes, loaded.nodes, strict=True):
        assert type(node) is type(expected)
        for name, value in vars(expected).items():
            got = getattr(node, name)
            if isinstance(value, np.ndarray):
                assert got.dtype == value.dtype and got.shape == value.shape, name
                np.testing.assert_array_equal(got, value)
            else:
                assert got == value and type(got) is type(value), name
