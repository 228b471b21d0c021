"""Networks with a shortcut around every convolution: exact at every executor."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from helpers import calibrate, small_images, small_model
from torch import nn

from bitspike import engine
from bitspike.compress import BinaryWeights, PowerOfTwoMembrane, apply
from bitspike.deploy import compile, exact_model, integer_logits, ir, reference
from bitspike.neurons import LIF

FORM = "sei_resnet_spike"
CONFIGS = {
    "default": BinaryWeights(),
    "scaled-gradient": BinaryWeights(scaled_gradient=True),
    "wide-shortcuts": BinaryWeights(edge_bits=4, layers=("*.currents.0.layer",)),
}
MEMBRANES = {"16-bit": None, "5-bit": 5}


def build(config: BinaryWeights, bits: int | None, seed: int) -> nn.Module:
    """The default neurons, or ones with a low-bit membrane; batch norm with statistics of data."""
    options = {}
    if bits is not None:
        options["neuron"] = lambda: LIF(reset="soft", membrane=PowerOfTwoMembrane.covering(bits, 1.0))
    model = apply(small_model(FORM, seed, **options), config)
    return calibrate(model, small_images(FORM, 8, seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("membrane", MEMBRANES)
@pytest.mark.parametrize("config", CONFIGS)
def test_no_bit_differs_between_torch_reference_and_engine(config: str, membrane: str, seed: int) -> None:
    model, samples = build(CONFIGS[config], MEMBRANES[membrane], seed), small_images(FORM, 9, seed)
    artifact = compile(model, samples)
    expected = reference.run(artifact.graph, samples.numpy())
    assert all(0 < s.mean() < 1 for s in expected.spikes.values())
    np.testing.assert_array_equal(integer_logits(model, samples), expected.logits)
    for level in engine.levels():
        network = engine.load(artifact.to_bytes(), level=level)
        np.testing.assert_array_equal(network.run(samples.numpy()), expected.logits)
        spikes = network.trace(samples.numpy())
        for index, values in expected.spikes.items():
            np.testing.assert_array_equal(spikes[network.names[index]], values)


@pytest.mark.parametrize("mode", ["full", "spatial"])
def test_exact_fine_tuning_keeps_the_temporal_gradient(mode: str) -> None:
    """Frames: with "spatial", the last step's logits say nothing about earlier frames' layers."""
    options = {"neuron": functools.partial(LIF, temporal_gradient=mode)}
    model = apply(small_model(FORM, **options), BinaryWeights())
    exact = exact_model(calibrate(model, small_images(FORM, 8)))
    frames = torch.stack([small_images(FORM, 4, seed) for seed in range(3)])
    currents: list[torch.Tensor] = []
    first = exact.layers[1]
    first.fired.register_forward_hook(lambda _m, _i, spikes: (spikes.retain_grad(), currents.append(spikes))[1])
    exact(frames)[-1].square().sum().backward()
    earlier, last = currents[0].grad[:-1].abs().max(), currents[0].grad[-1].abs().max()
    assert last > 0 and (earlier > 0) == (mode == "full")


def test_a_stream_of_currents_is_exact_too() -> None:
    model = calibrate(apply(small_model("sei_resnet"), BinaryWeights()), small_images("sei_resnet", 8))
    samples = small_images("sei_resnet", 4)
    graph = compile(model, samples).graph
    assert any(isinstance(node, ir.Stream) for node in graph.nodes)
    np.testing.assert_array_equal(reference.run(graph, samples.numpy()).logits, integer_logits(model, samples))
