"""The membranes a neuron shows are those its spikes are decided on."""

from __future__ import annotations

import pytest
import torch
from helpers import MEMBRANES

from bitspike.neurons import LIF, NEURONS, PLIF, Neuron


@pytest.mark.parametrize("T", [0, 1, 5])
@pytest.mark.parametrize("membrane", MEMBRANES)
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("make", [LIF, PLIF])
def test_spikes_are_where_the_membrane_is_above_the_threshold(make: type, reset: str, membrane: str, T: int) -> None:
    neuron = make(threshold=0.7, reset=reset, decay_input=True, membrane=MEMBRANES[membrane]()).eval()
    current = torch.randn(T, 3, 4, 2, 2) + 0.5
    membranes = neuron.membranes(current)
    assert membranes.shape == current.shape
    assert torch.equal((membranes > 0.7).float(), neuron(current))
    if T:
        torch.testing.assert_close(membranes[0], neuron.input_gain() * current[0])


def test_a_neuron_that_does_not_show_its_membranes_says_so() -> None:
    with pytest.raises(TypeError, match="LIF does not show its membranes"):
        Neuron.membranes(NEURONS["lif"](), torch.zeros(1, 1))
