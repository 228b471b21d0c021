"""The sliding parallel spiking neuron: one kernel for all steps, any length, steps equal to the sequence."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike.errors import ConfigError
from bitspike.neurons import SlidingPSN
from bitspike.ops import band_matrix, mix_steps


def stepped(neuron: SlidingPSN, current: Tensor) -> Tensor:
    state, spikes = None, []
    for x in current:
        s, state = neuron.step(x, state)
        assert state.shape == (neuron.order - 1, *x.shape)
        spikes.append(s)
    return torch.stack(spikes)


@pytest.mark.parametrize("T", [1, 2, 5, 12])
@pytest.mark.parametrize("order", [1, 2, 4, 7])
def test_convolution_product_and_steps_give_the_same_spikes(order: int, T: int) -> None:
    """Multiples of 1/8 and weights that are powers of two, so that the product's sums are exact in any order."""
    neuron = SlidingPSN(order).double()
    current = torch.randint(-24, 25, (T, 20, 7), dtype=torch.float64) / 8
    product = mix_steps(current, band_matrix(neuron.weight[:, None], T))
    spikes = neuron(current)
    assert torch.equal(spikes, (product > 1).double()) and spikes.any()
    assert torch.equal(spikes, stepped(neuron, current))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("order", [1, 3, 8])
def test_steps_equal_the_sequence_for_any_values(order: int, dtype: torch.dtype) -> None:
    neuron = SlidingPSN(order, kernel="uniform", threshold=0.1).to(dtype)
    current = 2 * torch.randn(9, 31, 3, dtype=dtype)
    assert torch.equal(neuron(current), stepped(neuron, current))


def test_a_sequence_may_go_on_from_a_state() -> None:
    neuron, current, state = SlidingPSN(4), 2 * torch.randn(9, 5, 3), None
    for x in current[:6]:
        _, state = neuron.step(x, state)
    assert torch.equal(state, current[3:6])
    assert torch.equal(neuron.step(current[6], state)[0], neuron(current)[6])


def test_last_weight_meets_the_current_of_the_step() -> None:
    neuron = SlidingPSN(3).double()
    assert neuron.weight.tolist() == [0.25, 0.5, 1.0]
    x = torch.randn(5, 2, dtype=torch.float64)
    expected = x + 0.5 * torch.cat([torch.zeros(1, 2), x[:-1]]) + 0.25 * torch.cat([torch.zeros(2, 2), x[:-2]])
    close(neuron.membranes(x), expected)


def test_uniform_start() -> None:
    weights = torch.cat([SlidingPSN(16, kernel="uniform").weight.detach() for _ in range(50)])
    assert 0.24 < weights.abs().max() <= 0.25 and weights.mean().abs() < 0.02


@pytest.mark.parametrize(
    "options, message",
    [
        ({"order": 0}, "order is 0, accepted: 1 or more"),
        ({"kernel": "flat"}, "kernel is 'flat', accepted: exponential, uniform"),
        ({"threshold": -1.0}, "threshold is -1.0, accepted: above 0"),
    ],
    ids=["order", "kernel", "threshold"],
)
def test_bad_values_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SlidingPSN(**options)
