"""Which time is booked on which layer; never how long it is."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from helpers import calibrate, small_images, small_model
from torch import nn

from bitspike import engine
from bitspike.compress import MixedBits, allocate, apply, weight_layers
from bitspike.deploy import compile
from bitspike.errors import ConfigError
from bitspike.measure import layer_times

BITS = (2, 8)


def artifacts(name: str) -> tuple[nn.Module, dict[int, bytes], np.ndarray]:
    samples = small_images(name, 12)
    network = calibrate(small_model(name), samples)
    made = {}
    for bits in BITS:
        quantized = apply(copy.deepcopy(network), MixedBits(default=bits, quantizer="symmetric")).eval()
        made[bits] = compile(quantized, samples[:4]).to_bytes()
    return network, made, samples[0].numpy()


def give(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[str], float]) -> None:
    """Let every node take ``seconds`` of its name."""
    monkeypatch.setattr(engine.Network, "profile", lambda net, x, repeats: {name: seconds(name) for name in net.names})


@pytest.mark.parametrize("name", ["vggsnn", "resnet19"])
def test_every_layer_and_bit_width_has_a_time(name: str) -> None:
    network, made, sample = artifacts(name)
    found = layer_times(made, list(weight_layers(network)), sample, repeats=2)
    assert list(found.seconds) == list(weight_layers(network))
    assert all(list(row) == list(BITS) and min(row.values()) > 0 for row in found.seconds.values())
    assert found.rest >= 0
    zeros = {layer: dict.fromkeys(BITS, 0.0) for layer in found.seconds}
    assert allocate(zeros, found.seconds, 1.0, fixed=found.rest, unit="seconds").cost < 1.0


@pytest.mark.parametrize("name", ["vggsnn", "resnet19"])
def test_the_parts_add_up_to_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, made, sample = artifacts(name)
    names = engine.load(made[2]).names
    taken = {node: float(1 + i) for i, node in enumerate(names)}
    give(monkeypatch, lambda node: taken[node])
    found = layer_times(made, list(weight_layers(network)), sample)
    for bits in BITS:
        assert sum(row[bits] for row in found.seconds.values()) + found.rest == pytest.approx(sum(taken.values()))


def test_a_neurons_time_belongs_to_the_weights_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    network, made, sample = artifacts("vggsnn")
    give(monkeypatch, lambda node: {"features.2": 3.0, "readout": 5.0, "features.1": 7.0}.get(node, 0.0))
    found = layer_times(made, list(weight_layers(network)), sample)
    expected = {"features.2.currents.0.layer": 3.0, "readout.layer": 5.0}
    assert {layer: row[2] for layer, row in found.seconds.items() if row[2]} == expected
    assert found.rest == 7.0, "the pool"


def test_two_layers_into_one_neuron_share_by_their_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strided block of a ResNet adds a 3x3 convolution of 2c channels and a 1x1 shortcut of c: 18 to 1."""
    network, made, sample = artifacts("resnet19")
    shortcuts = [name for name in weight_layers(network) if ".second.currents.1." in name]
    assert shortcuts, "a block whose shape changes"
    unit = shortcuts[0].removesuffix(".currents.1.layer")
    give(monkeypatch, lambda node: 19.0 if node == unit else 0.0)
    found = layer_times(made, list(weight_layers(network)), sample)
    assert found.seconds[shortcuts[0]][2] == pytest.approx(1.0)
    assert found.seconds[f"{unit}.currents.0.layer"][2] == pytest.approx(18.0)
    assert found.rest == 0


def test_layers_that_are_not_asked_for_are_part_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    _, made, sample = artifacts("vggsnn")
    give(monkeypatch, lambda node: 1.0)
    found = layer_times(made, ["readout.layer"], sample)
    assert found.seconds == {"readout.layer": dict.fromkeys(BITS, 1.0)}
    assert found.rest == len(engine.load(made[2]).names) - 1


def test_what_cannot_be_timed_is_refused() -> None:
    _, made, sample = artifacts("vggsnn")
    with pytest.raises(
        ConfigError, match=r"the artifact has no layer readout, accepted: features.0.currents.0.layer, "
    ):
        layer_times(made, ["readout"], sample)
    with pytest.raises(ConfigError, match="there are no artifacts to time, accepted: at least one"):
        layer_times({}, ["readout.layer"], sample)
