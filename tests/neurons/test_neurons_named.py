"""Neurons by name and options, and the schedule of their masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bitspike.errors import ConfigError
from bitspike.neurons import LIF, NEURONS, PSN, MaskedPSN, mask_schedule, named_neuron
from bitspike.ops import ATan


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_is_made_for_the_length_of_the_sequence(name: str) -> None:
    neuron = named_neuron(name, 7)()
    assert type(neuron) is NEURONS[name]
    assert neuron.time_steps in (None, 7)


def test_options_are_the_neurons_own_and_a_surrogate_is_a_name() -> None:
    neuron = named_neuron({"name": "lif", "leak": 0.75, "reset": "soft", "surrogate": "atan"}, 4)()
    assert isinstance(neuron, LIF) and (neuron.leak, neuron.reset, neuron.surrogate) == (0.75, "soft", ATan())
    assert named_neuron({"name": "psn", "time_steps": 3}, 7)().time_steps == 3


def test_the_choice_is_left_as_it_is_and_no_random_number_is_drawn() -> None:
    choice = {"name": "psn", "threshold": 0.5}
    torch.manual_seed(3)
    make = named_neuron(choice, 4)
    first = make()
    torch.manual_seed(3)
    assert torch.equal(first.weight, PSN(4).weight)
    assert choice == {"name": "psn", "threshold": 0.5}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("lff", "neuron is 'lff', accepted: .*lif, masked_psn"),
        ({}, "neuron is None, accepted"),
        ({"name": ["lif"]}, "neuron is .*lif.*, accepted"),
        ({"name": "lif", "tau": 2}, "neuron 'lif' has no option tau, accepted: leak"),
        ({"name": "lif", "surrogate": "step"}, "surrogate is 'step', accepted: triangle"),
        ({"name": "lif", "leak": 2.0}, "leak is 2.0, accepted: 0 to 1"),
        ({"name": "masked_psn", "order": 9}, "order is 9, accepted: 1 to 4"),
        ({"name": "masked_psn", "order": "two"}, "neuron 'masked_psn' cannot be built with .*'order': 'two'"),
    ],
    ids=str,
)
def test_refused(choice: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        named_neuron(choice, 4)


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 64, 256])
def test_masks_close_as_in_the_released_code(epochs: int) -> None:
    neuron = MaskedPSN(4)
    schedule, model = mask_schedule(epochs), nn.Sequential(neuron)
    for epoch in range(epochs):
        schedule(model, epoch / epochs)
        expected = min(1.0, 8 * epoch / (epochs - 1)) if epochs > 1 else 1.0
        assert neuron.progress == pytest.approx(expected, abs=1e-12)
    assert neuron.causal
