"""Networks for images one column per step. The contracts of all models are in test_models.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import calibrate, close, images, small_images, small_model
from torch import nn
from torch.nn import functional as F

from bitspike import compress, deploy
from bitspike.errors import ConfigError, LoweringError
from bitspike.layers import AvgPool, ColumnConvBN, ColumnPool
from bitspike.models import create_model
from bitspike.neurons import NEURONS, PSN, MaskedPSN, Neuron, SlidingPSN, observe_rates

PUBLISHED = {"channels": 128, "convolutions": 3, "stages": 2, "hidden": 256, "T": 32, "input_shape": (3, 32, 1)}
SMALL = {"T": 4, "channels": 4, "hidden": 6, "input_shape": (2, 9, 1)}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_column_convolution_is_a_one_dimensional_one(stride: int, padding: int) -> None:
    synapse = ColumnConvBN(3, 5, 3, stride=stride, padding=padding).double().eval()
    columns = torch.randn(2, 4, 3, 9, 1, dtype=torch.float64)
    expected = F.conv1d(columns.flatten(0, 1)[..., 0], synapse.layer.weight[..., 0], None, stride, padding)
    expected = synapse.norm(expected[..., None]).unflatten(0, (2, 4))
    close(synapse(columns), expected)


def test_a_column_pool_averages_pixels_one_above_the_other() -> None:
    columns = torch.randn(2, 3, 4, 7, 1, dtype=torch.float64)
    close(ColumnPool(2)(columns)[..., 0].flatten(0, 2), F.avg_pool1d(columns[..., 0].flatten(0, 2), 2))


def test_published_size() -> None:
    with torch.device("meta"):
        model = create_model("sequential", num_classes=10, **PUBLISHED)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    shapes = [(c.in_channels, c.out_channels, c.kernel_size, c.padding) for c in convolutions]
    assert shapes == [(3, 128, (3, 1), (1, 0))] + [(128, 128, (3, 1), (1, 0))] * 5
    linear = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert linear == [(128 * 8, 256), (256, 10)]
    assert sum(isinstance(m, ColumnPool) for m in model.modules()) == 2


@pytest.mark.parametrize(
    ("neuron", "each"),
    [
        ("psn", 32 * 32 + 32),
        ("masked_psn", 32 * 32 + 32),
        ({"name": "sliding_psn", "order": 32}, 33),
        ("plif", 1),
        ("asn", 1),
        ("lif", 0),
    ],
    ids=str,
)
def test_parameters_of_the_neurons(neuron: Any, each: int) -> None:
    """Per layer of neurons as published; the network has seven."""
    model = create_model("sequential", neuron=neuron, **PUBLISHED)
    neurons = [m for m in model.modules() if isinstance(m, Neuron)]
    assert [sum(p.numel() for p in n.parameters()) for n in neurons] == [each] * 7


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_by_name_trains(name: str) -> None:
    torch.manual_seed(0)
    model = create_model("sequential", neuron=name, num_classes=5, **SMALL)
    columns = torch.stack([images(8, (2, 9, 1), seed) for seed in range(4)])
    with observe_rates(model) as rates:
        logits = model(columns)
    assert logits.shape == (4, 8, 5) and len(rates) == 3
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("neuron", "sees_later_columns"), [("lif", False), ("psn", True)])
def test_only_a_psn_answers_before_it_has_seen_the_column(neuron: str, sees_later_columns: bool) -> None:
    torch.manual_seed(0)
    model = calibrate(create_model("sequential", neuron=neuron, **SMALL), images(8, (2, 9, 1)))
    columns = torch.stack([images(8, (2, 9, 1), seed) for seed in range(4)])
    changed = columns.clone()
    changed[3] = images(8, (2, 9, 1), seed=9)
    with torch.no_grad(), observe_rates(model) as rates:
        one, other = model(columns), model(changed)
    assert max(r.rate.item() for r in rates) > 0
    assert (one[:3] != other[:3]).any() == sees_later_columns


def test_options_of_a_neuron_reach_it() -> None:
    neurons = [
        next(m for m in create_model("vggsnn", neuron=choice, T=6).modules() if isinstance(m, Neuron))
        for choice in ("psn", {"name": "masked_psn", "order": 3}, {"name": "sliding_psn", "order": 9})
    ]
    assert [type(n) for n in neurons] == [PSN, MaskedPSN, SlidingPSN]
    assert (neurons[0].time_steps, neurons[1].time_steps, neurons[1].order, neurons[2].order) == (6, 6, 3, 9)


def test_the_published_form_is_refused_by_name_and_the_strided_one_deploys() -> None:
    for name in ("sequential", "sequential_strided"):
        model = calibrate(small_model(name), small_images(name, 8))
        compress.apply(model, compress.MixedBits(default=4, quantizer="symmetric"))
        samples = small_images(name, 4)
        if name == "sequential":
            with pytest.raises(LoweringError, match=r"'features.2' is a ColumnPool: it pools windows of k x 1"):
                deploy.exact_model(model)
        else:
            assert deploy.compile(deploy.exact_model(model).eval(), samples.numpy()).to_bytes()
            assert not any(isinstance(m, ColumnPool | AvgPool) for m in model.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (1, 8, 8)}, r"input_shape is \(1, 8, 8\), accepted: \(channels, height, 1\)"),
        ({"stages": 0}, "stages is 0, accepted: 1 or more"),
        ({"stages": 4}, "4 stages of 2 convolutions leave nothing of a column of 9"),
        ({"zero_point": (1,)}, r"zero_point is \(1,\), accepted: one value for each of 2 channels"),
        ({"neuron": "psm"}, "neuron is 'psm', accepted: .*psn"),
    ],
)
@pytest.mark.parametrize("name", ["sequential", "sequential_strided"])
def test_unusable(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, **SMALL | options)
