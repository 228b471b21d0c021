"""The sensitivity of a layer against its definition, and that measuring leaves the model alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from helpers import calibrate, close, images, logits_of, small_images, small_model
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bitspike.compress import MixedBits, apply, layer_sensitivity, weight_layers
from bitspike.compress.mixed import QUANTIZERS, mixed_quantizer
from bitspike.compress.sensitivity import divergences
from bitspike.errors import ConfigError
from bitspike.layers import mean_over_time


def lived(name: str = "vggsnn", **options: object) -> nn.Module:
    return calibrate(small_model(name, **options), small_images(name, 16))


class Halve(nn.Module):
    """Stands for a method that changes weights before they are quantized."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight * 0.5


@pytest.mark.parametrize("name", ["vggsnn", "resnet19"])
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_an_entry_is_the_divergence_with_one_layer_quantized(name: str, quantizer: str) -> None:
    model, batches = lived(name), [small_images(name, n, seed=n) for n in (5, 1, 7)]
    found = layer_sensitivity(model, batches, (2, 5), quantizer)
    samples = torch.cat(batches)
    expected = mean_over_time(logits_of(model, samples)).double().softmax(-1)
    for layer_name in weight_layers(model):
        for bits in (2, 5):
            changed = copy.deepcopy(model)
            layer = weight_layers(changed)[layer_name]
            layer.weight.data = mixed_quantizer(changed, layer, quantizer, bits)(layer.weight.data)
            actual = mean_over_time(logits_of(changed, samples)).double().log_softmax(-1)
            reference = nn.functional.kl_div(actual, expected, reduction="batchmean").item()
            assert found.table[layer_name][bits] == pytest.approx(reference, rel=1e-4, abs=1e-9)
    assert (found.samples, found.quantizer) == (13, quantizer)


def test_the_divergence_of_known_distributions() -> None:
    even, sharp = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log(), torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    expected = torch.tensor([0.0, 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)])
    close(divergences(even, sharp), expected)
    random = torch.randn(200, 7, dtype=torch.float64).log_softmax(-1)
    shifted = (random + 3).log_softmax(-1)  # the same but for rounding
    assert (divergences(random, shifted) >= 0).all() and divergences(random, shifted).max() < 1e-14
    assert (divergences(random, random.flip(1)) > 0).all()


@pytest.mark.parametrize("name", ["vggsnn", "resnet19"])
def test_more_bits_disturb_less(name: str) -> None:
    """Fewest against most: neighbouring widths need not be ordered, since spikes are steps."""
    table = layer_sensitivity(lived(name), [small_images(name, 32, seed=4)], (1, 8)).table
    assert all(row[8] < row[1] for row in table.values())
    assert sum(row[8] for row in table.values()) < 0.05 * sum(row[1] for row in table.values())


def test_weights_that_lie_on_the_grid_cost_nothing() -> None:
    model = lived()
    name = list(weight_layers(model))[1]
    weight = weight_layers(model)[name].weight
    integers = (torch.arange(weight.numel()) % 15 - 7).view_as(weight)
    weight.data = integers * 2.0**-4
    table = layer_sensitivity(model, [small_images("vggsnn", 9)], (2, 4), "symmetric").table
    assert table[name][4] == 0 < table[name][2]


def test_the_model_is_left_as_it_is() -> None:
    model = lived().train()
    before = copy.deepcopy(model.state_dict())
    layer_sensitivity(model, [small_images("vggsnn", 3)], (1, 3))
    assert model.training and not any(parametrize.is_parametrized(m) for m in model.modules())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_stands_before_a_quantizer_counts_and_stays() -> None:
    plain = lived()
    model = copy.deepcopy(plain)
    for layer in weight_layers(model).values():
        parametrize.register_parametrization(layer, "weight", Halve())
        layer.parametrizations.weight.original.data *= 2
    samples = [small_images("vggsnn", 6)]
    assert layer_sensitivity(model, samples, (2, 4)).table == layer_sensitivity(plain, samples, (2, 4)).table
    assert all(len(layer.parametrizations.weight) == 1 for layer in weight_layers(model).values())
    assert torch.equal(logits_of(model, samples[0]), logits_of(plain, samples[0]))


@pytest.mark.parametrize("batches", [1, 3])
def test_the_search_says_what_it_cost(batches: int) -> None:
    model, told = lived(), []
    samples = [small_images("vggsnn", 2, seed=s) for s in range(batches)]
    found = layer_sensitivity(model, samples, (3, 1, 3), on_pass=lambda done, total: told.append((done, total)))
    passes = batches * (1 + 2 * len(weight_layers(model)))
    assert found.forward_passes == passes and found.seconds > 0
    assert told == [(i + 1, passes) for i in range(passes)]
    assert all(list(row) == [1, 3] for row in found.table.values())


def test_frames_are_accepted() -> None:
    frames = images(4, (3, 2, 9, 8)).transpose(0, 1)
    table = layer_sensitivity(lived(), [frames], (2,)).table
    assert all(math.isfinite(value) for row in table.values() for value in row.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": (0, 2)}, "a candidate of bits is 0, accepted: 1 to 8"),
        ({"bits": ()}, "0 candidates and 1 batches, accepted: at least one of each"),
        ({"calibration": []}, "7 candidates and 0 batches, accepted: at least one of each"),
        ({"calibration": [torch.zeros(0, 2, 9, 8, dtype=torch.uint8)]}, "hold no samples, accepted: at least one"),
        ({"quantizer": "sign"}, "quantizer is 'sign', accepted: rescaw, "),
        ({"model": apply(small_model("vggsnn"), MixedBits(default=4))}, "carry a quantizer, accepted: full-precision"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {"model": lived(), "calibration": [small_images("vggsnn", 2)]} | change
    with pytest.raises(ConfigError, match=message):
        layer_sensitivity(**arguments)
