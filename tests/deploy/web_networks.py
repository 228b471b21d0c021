"""Networks whose pages are tested: random ones, one on real digits, one on long sequences of events."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from helpers import digits_net
from numpy.typing import NDArray

from bitspike import data, deploy, engine
from bitspike.compress import QSNN, apply
from bitspike.deploy import artifact, ir

sys.path.append(str(Path(__file__).parents[1] / "engine"))
from graphs import random_graph, random_samples

Samples = NDArray[np.uint8]


def random_network(seed: int, count: int, *, extreme: bool = False) -> tuple[engine.Network, Samples]:
    rng = np.random.default_rng([seed, 7])
    graph = random_graph(rng, extreme=extreme)
    return engine.load(artifact.encode(graph)), random_samples(rng, graph, count)


def digits_artifact(bundle: data.DataBundle) -> bytes:
    """A network of the demo's kind whose norms have seen digits, so that its neurons fire as trained ones do."""
    torch.manual_seed(0)
    model = apply(digits_net(bundle.spec, widths=(16, 24, "P", 24, "P")), QSNN(membrane="power-of-two"))
    images = torch.from_numpy(bundle.train.inputs[:128])
    with torch.no_grad():
        for _ in range(20):
            model(images)
    exact = deploy.exact_model(model.eval())
    meta = {"data": "digits", "classes": list(bundle.spec.classes), "method": "q-snn", "accuracy": 0.125}
    return deploy.compile(exact, bundle.train.inputs[:32], meta=meta, test_vectors=2).to_bytes()


def events_network(time_steps: int = 12) -> tuple[engine.Network, Samples]:
    """Two polarities, one frame per step, more steps than stand side by side; names that try to end the page's script."""
    rng = np.random.default_rng(0)
    weight = rng.choice(np.array([-1, 1], np.int8), (9, 2, 3, 3))
    lif = ir.Lif((1,), np.ones((1, 9), np.int32), *np.full((2, 9), 3, np.int32), np.zeros(9, np.uint8), 6, 1)
    readout = ir.Readout(2, rng.integers(-7, 8, (14, 9)).astype(np.int8), np.zeros(14, np.int32), 4, pool=True)
    nodes: list[ir.Node] = [ir.Input(2, 6, 5, time_steps, (0, 0)), ir.Conv(0, weight, 1, padding=1), lif, readout]
    names = ["input", "current", "</script><b>layer", "readout"]
    classes = ["</script><script>document.body.remove()</script>", *(f"class & {i}" for i in range(1, 14))]
    graph = ir.Graph(time_steps, nodes, names, [], {"classes": classes, "data": "<i>events"})
    return engine.load(artifact.encode(graph)), rng.integers(0, 4, (3, time_steps, 2, 6, 5), np.uint8)
