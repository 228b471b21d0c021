"""What channel removal refuses, and that a refused model is left as it was."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from helpers import small_model
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bitspike.compress import KeepChannels, apply, config_from_json, remove_channels
from bitspike.errors import ConfigError
from bitspike.layers import ConvBN


def grouped() -> nn.Module:
    model = small_model("vggsnn")
    model.features[2].currents[0] = ConvBN(4, 6, 3, groups=2)
    return model


def per_channel_neuron() -> nn.Module:
    model = small_model("vggsnn")
    model.features[2].neuron.register_buffer("offsets", torch.zeros(6))
    return model


def odd_parametrization() -> nn.Module:
    class Codebook(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codes = nn.Parameter(torch.rand(3))

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.codes.sum()

    model = small_model("vggsnn")
    for layer in (model.features[2].currents[0].layer, model.readout.layer):
        parametrize.register_parametrization(layer, "weight", Codebook())
    return model


def unknown_current() -> nn.Module:
    model = small_model("vggsnn")
    model.features[2].currents[0] = nn.Sequential()
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, list[int]], str]] = {
    "unknown": (
        lambda: small_model("vggsnn"),
        {"features.1": [0]},
        "no channel group 'features.1', accepted: features.0",
    ),
    "empty": (
        lambda: small_model("vggsnn"),
        {"features.0": []},
        r"channels \[\] of 'features.0', accepted: at least one",
    ),
    "range": (lambda: small_model("vggsnn"), {"features.0": [0, 4]}, "ascending, 0 to 3"),
    "negative": (lambda: small_model("vggsnn"), {"features.0": [-1, 0]}, "ascending, 0 to 3"),
    "order": (lambda: small_model("vggsnn"), {"features.0": [2, 1]}, "ascending, 0 to 3"),
    "twice": (lambda: small_model("vggsnn"), {"features.0": [1, 1]}, "ascending, 0 to 3"),
    "groups": (grouped, {"features.0": [0]}, "'features.2' has a convolution in 2 groups"),
    "neuron": (per_channel_neuron, {"features.2": [0]}, r"neuron of 'features.2' holds 'offsets' of shape \(6,\)"),
    "codes": (odd_parametrization, {"features.2": [0]}, r"Codebook on the weight of 'features.2' holds 'codes'"),
    "readout": (odd_parametrization, {"features.3": [0]}, "Codebook on the weight of 'readout' holds 'codes'"),
    "current": (unknown_current, {"features.2": [0]}, "'features.2' has a Sequential as current"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_cut_is_refused_and_left_alone(case: str) -> None:
    make, keep, message = REFUSED[case]
    model = make()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ConfigError, match=message):
        apply(model, KeepChannels({k: tuple(v) for k, v in keep.items()}))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "value, message", [([1.5], r"KeepChannels.channels.a\[0\] is 1.5, accepted: int"), (2, "is 2")]
)
def test_a_record_of_other_values_is_refused(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_json(json.dumps({"type": "KeepChannels", "version": 1, "channels": {"a": value}}))


def test_a_grouped_convolution_that_is_not_touched_stays() -> None:
    smaller = remove_channels(grouped(), {"features.3": [0, 2]})
    assert smaller.features[2].currents[0].layer.groups == 2
