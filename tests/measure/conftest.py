"""A small compiled network on real digits, shared by the tests of bitspike.measure."""

from __future__ import annotations

import pytest
import torch
from measure_graphs import Shipped

from bitspike import compress, data, deploy, models


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shipped() -> Shipped:
    bundle = data.load("digits", None)
    torch.manual_seed(0)
    model = models.create_model(
        "vggsnn",
        T=3,
        widths=[12, "P", 18],
        input_shape=bundle.spec.shape,
        zero_point=bundle.spec.zero_point,
        input_scale=bundle.spec.scale,
    )
    compress.apply(model, compress.QSNN(membrane="power-of-two"))
    images = torch.from_numpy(bundle.train.inputs[:128])
    with torch.no_grad():
        for _ in range(20):  # gives batch norm the statistics of real images
            model(images)
    exact = deploy.exact_model(model.eval()).eval()
    compiled = deploy.compile(exact, bundle.train.inputs[:32], meta={"data": "digits"})
    return Shipped(exact, compiled.graph, compiled.to_bytes(), bundle.test.inputs[:48], bundle.test.labels[:48])
