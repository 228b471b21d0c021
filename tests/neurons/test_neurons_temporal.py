"""The switch of the gradient through time: "full" is backpropagation through time, "spatial" stays within a step."""

from __future__ import annotations

import pytest
import torch
from helpers import MEMBRANES, close
from torch import Tensor, nn

from bitspike.errors import ConfigError
from bitspike.neurons import LIF, NEURONS, PLIF, Neuron, set_temporal_gradient
from bitspike.ops import LifRule, Triangle, lif_scan, multiplicative_leak, soft_reset, spatial_gradient

SWITCHED = {"lif": LIF, "plif": PLIF}


def membranes(neuron: Neuron, current: Tensor) -> Tensor:
    """u (T, N, ...) before the spike, of a neuron whose input does not decay."""
    state, values = None, []
    for x in current:
        values.append(x if state is None else neuron.rule().leak(state) + x)
        _, state = neuron.step(x, state)
    return torch.stack(values).detach()


@pytest.mark.parametrize("membrane", MEMBRANES)
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("name", SWITCHED)
def test_spatial_gradient_is_the_surrogate_at_each_step_alone(name: str, reset: str, membrane: str) -> None:
    neuron = SWITCHED[name](reset=reset, membrane=MEMBRANES[membrane](), temporal_gradient="spatial").double()
    current = (0.8 + torch.randn(5, 3, 7, dtype=torch.float64)).requires_grad_()
    upstream = torch.randn(5, 3, 7, dtype=torch.float64)
    neuron(current).backward(upstream)
    distance = membranes(neuron, current.detach()) - neuron.threshold
    close(current.grad, upstream * Triangle().derivative(distance))


@pytest.mark.parametrize("membrane", MEMBRANES)
@pytest.mark.parametrize("name", SWITCHED)
def test_the_switch_changes_gradients_and_nothing_else(name: str, membrane: str) -> None:
    spikes, gradients = [], []
    for mode in ("full", "spatial"):
        neuron = SWITCHED[name](membrane=MEMBRANES[membrane](), temporal_gradient=mode)
        current = (torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(2)) + 0.5).requires_grad_()
        out = neuron(current)
        out.sum().backward()
        spikes.append(out)
        gradients.append(current.grad)
    assert torch.equal(*spikes) and torch.equal(gradients[0][-1], gradients[1][-1])
    assert not torch.allclose(gradients[0][:-1], gradients[1][:-1])


@pytest.mark.parametrize("name", SWITCHED)
def test_steps_have_the_gradient_of_the_sequence(name: str) -> None:
    neuron = SWITCHED[name](reset="soft", temporal_gradient="spatial").double()
    upstream = torch.randn(4, 3, 5, dtype=torch.float64)
    gradients = []
    for stepwise in (False, True):
        current = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        neuron.zero_grad()
        state = None
        if not stepwise:
            neuron(current).backward(upstream)
        else:  # a step's graph is gone before the next one begins
            for x, g in zip(current, upstream, strict=True):
                s, state = neuron.step(x, state)
                assert not state.requires_grad
                s.backward(g)
        gradients.append([current.grad, *(p.grad for p in neuron.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert one.abs().max() > 0
        close(one, other)


def test_learned_leak_still_learns() -> None:
    """Two steps: d u[2] / d leak is the carry, as in backpropagation through time; only the carry itself is cut."""
    leak = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    current = torch.tensor([[0.6], [0.4]], dtype=torch.float64, requires_grad=True)
    rule = LifRule(multiplicative_leak(leak), reset=soft_reset, temporal=spatial_gradient)
    lif_scan(current, rule)[1].sum().backward()
    close(leak.grad, torch.tensor(0.6 * (1 - abs(0.7 - 1)), dtype=torch.float64))
    assert current.grad[0] == 0 and current.grad[1] > 0


def test_learned_store_still_learns() -> None:
    """The cut lies before the membrane quantizer, so that what the quantizer learns keeps its gradient."""
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    current = torch.tensor([[0.6], [0.8]], dtype=torch.float64, requires_grad=True)
    rule = LifRule(multiplicative_leak(0.5), store=lambda u: scale * u, temporal=spatial_gradient)
    lif_scan(current, rule)[1].sum().backward()
    close(scale.grad, torch.tensor(0.5 * 0.6 * (1 - abs(0.95 - 1)), dtype=torch.float64))
    assert current.grad[0] == 0


def test_set_temporal_gradient_reaches_every_neuron() -> None:
    model = nn.Sequential(LIF(), nn.Sequential(PLIF(), LIF(temporal_gradient="spatial")))
    assert set_temporal_gradient(model, "spatial") is model
    assert [m.temporal_gradient for m in model.modules() if isinstance(m, Neuron)] == ["spatial"] * 3
    set_temporal_gradient(model, "full")
    assert [m.temporal_gradient for m in model.modules() if isinstance(m, Neuron)] == ["full"] * 3


@pytest.mark.parametrize("name", NEURONS)
def test_default_is_backpropagation_through_time(name: str) -> None:
    assert NEURONS[name]().temporal_gradient == "full"


def test_unknown_value_is_refused() -> None:
    message = "temporal_gradient is 'half', accepted: full, spatial"
    for neuron in SWITCHED.values():
        with pytest.raises(ConfigError, match=message):
            neuron(temporal_gradient="half")
    with pytest.raises(ConfigError, match=message):
        set_temporal_gradient(nn.Sequential(LIF()), "half")
