"""The neuron that fires when its membrane reaches the threshold, beside the one that must exceed it."""

from __future__ import annotations

import pytest
import torch
from helpers import close

from bitspike.errors import ConfigError
from bitspike.neurons import LIF, ReachingLIF, set_temporal_gradient
from bitspike.ops import Sigmoid, reach, spike

RULES = [{"reset": r, "detach_reset": d, "decay_input": i} for r in ("hard", "soft") for d in (0, 1) for i in (0, 1)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_away_from_the_threshold_it_is_a_lif(rule: dict) -> None:
    current = torch.randn(5, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    upstream = torch.randn(5, 3, 7, dtype=torch.float64)
    found = []
    for kind in (LIF, ReachingLIF):
        x = current.clone().requires_grad_()
        spikes = kind(0.5, surrogate=Sigmoid(), **rule)(x)
        spikes.backward(upstream)
        found.append((spikes, x.grad))
    assert torch.equal(found[0][0], found[1][0]) and found[0][0].any()
    close(found[0][1], found[1][1])


def test_at_the_threshold_it_fires_and_a_lif_does_not() -> None:
    current = torch.tensor([[1.0, 0.5, 2.0], [0.5, 0.75, 1.0]])
    assert ReachingLIF()(current).tolist() == [[1, 0, 1], [0, 1, 1]]
    assert LIF()(current).tolist() == [[0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_two_decisions(dtype: torch.dtype) -> None:
    distance = torch.tensor([-1.0, -0.0, 0.0, 1.0], dtype=dtype, requires_grad=True)
    assert reach(distance, Sigmoid()).tolist() == [0, 1, 1, 1] and spike(distance, Sigmoid()).tolist() == [0, 0, 0, 1]
    (slope,) = torch.autograd.grad(reach(distance, Sigmoid()).sum(), distance)
    close(slope, Sigmoid().derivative(distance.detach()))


def test_the_temporal_gradient_can_be_cut() -> None:
    neuron = set_temporal_gradient(ReachingLIF(), "spatial")
    current = torch.full((2, 1), 0.4, requires_grad=True)
    neuron(current)[1].sum().backward()
    assert current.grad[0] == 0 and current.grad[1] > 0


@pytest.mark.parametrize("leak", [-0.1, 1.1])
def test_leak_out_of_range(leak: float) -> None:
    with pytest.raises(ConfigError, match=f"leak is {leak}, accepted: 0 to 1"):
        ReachingLIF(leak)
