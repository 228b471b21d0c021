"""Saccadic neurons: the map over time, thresholds above 0, causality, and what the two forms have in common."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike.errors import ConfigError
from bitspike.neurons import DecoupledSaccadic, Saccadic
from bitspike.neurons.saccadic import LEAST
from bitspike.ops import Sigmoid


def raw(value: Tensor) -> Tensor:
    """What ``positive`` maps to ``value``."""
    return torch.log2(torch.exp2(value) - 1)


def with_values(neuron: Saccadic | DecoupledSaccadic, thresholds: Tensor, weight: Tensor | None = None) -> None:
    """Give ``neuron``, built with threshold 1, these values."""
    neuron.double()
    with torch.no_grad():
        neuron.raw_threshold.copy_(raw(thresholds))
        if weight is not None:
            diagonal = raw((weight.diagonal() - LEAST) / (1 - LEAST))
            neuron.raw_weight.copy_(weight.tril(-1) + diagonal.diag())


def forms(thresholds: Tensor, weight: Tensor) -> tuple[Saccadic, DecoupledSaccadic]:
    """The training form with M and V, and the form that the paper says it runs as, with M^-1 V where that is above 0."""
    mix, decoupled = Saccadic(len(weight)), DecoupledSaccadic(len(weight))
    with_values(mix, thresholds.double(), weight.double())
    with_values(decoupled, torch.linalg.solve(mix.weight(), mix.thresholds()).detach())
    return mix, decoupled


@pytest.mark.parametrize("T", [1, 3, 8])
def test_point_05_a_diagonal_map_gives_the_same_spikes_in_both_forms(T: int) -> None:
    mix, decoupled = forms(0.1 + torch.rand(T), (0.2 + 3 * torch.rand(T)).diag())
    current = torch.randn(T, 50, 7, dtype=torch.float64)
    assert torch.equal(mix(current), decoupled(current)) and 0 < mix(current).mean() < 1


def test_point_05_counter_example_where_the_two_forms_differ() -> None:
    """M = [[1, 0], [0.5, 1]], V = (1, 1), p = (0, 0.8): M p = (0, 0.8), but M^-1 V = (1, 0.5)."""
    mix, decoupled = forms(torch.ones(2), torch.tensor([[1.0, 0.0], [0.5, 1.0]]))
    current = torch.tensor([[0.0], [0.8]], dtype=torch.float64)
    close(decoupled.thresholds(), torch.tensor([1.0, 0.5]).double())
    assert mix(current)[:, 0].tolist() == [0, 0] and decoupled(current)[:, 0].tolist() == [0, 1]


def test_membranes_are_a_lower_triangular_product_with_all_gradients() -> None:
    neuron = Saccadic(5, surrogate=Sigmoid(3.0)).double()
    current = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(5, 4, 3, dtype=torch.float64)
    neuron(current).backward(upstream)
    m, v = neuron.weight().detach().requires_grad_(), neuron.thresholds().detach().requires_grad_()
    x = current.detach().requires_grad_()
    h = (m @ x.flatten(1)).view_as(x)
    close(neuron.membranes(current), h)
    distance = h / v.view(-1, 1, 1) - 1
    distance.backward(upstream * Sigmoid(3.0).derivative(distance.detach()))
    close(current.grad, x.grad)
    half = torch.full((5,), 0.5, dtype=torch.float64)  # slope of ``positive`` at 0
    close(neuron.raw_threshold.grad, half * v.grad)
    close(neuron.raw_weight.grad, m.grad.tril(-1) + (half * (1 - LEAST) * m.grad.diagonal()).diag())


@pytest.mark.parametrize("kind", [Saccadic, DecoupledSaccadic])
def test_start_is_exact_and_thresholds_stay_above_zero(kind: type) -> None:
    neuron = kind(3, threshold=0.3)
    assert torch.equal(neuron.thresholds(), torch.full((3,), 0.3))
    neuron.raw_threshold.data.fill_(-20)
    assert (neuron.thresholds() > 0).all()
    if kind is Saccadic:
        assert neuron.weight().tolist() == [[1, 0, 0], [0.5, 1, 0], [0.25, 0.5, 1]]
        neuron.raw_weight.data.fill_(-200)
        assert (neuron.weight().diagonal() >= LEAST * 0.999).all()


@pytest.mark.parametrize(
    ("neuron", "expected"), [(Saccadic(4), torch.ones(4, 4).tril()), (DecoupledSaccadic(4), torch.eye(4))], ids=repr
)
def test_point_04_which_steps_a_spike_depends_on(neuron: Saccadic, expected: Tensor) -> None:
    current = torch.randn(4, 1, dtype=torch.float64, requires_grad=True)
    spikes = neuron.double()(current)
    depends = [torch.autograd.grad(s, current, retain_graph=True)[0][:, 0] != 0 for s in spikes[:, 0]]
    assert torch.equal(torch.stack(depends), expected.bool()) and neuron.causal


@pytest.mark.parametrize("kind", [Saccadic, DecoupledSaccadic])
def test_length_and_bad_values(kind: type) -> None:
    with pytest.raises(ConfigError, match="the sequence has 3 steps, accepted: 2"):
        kind(2)(torch.zeros(3, 1))
    neuron, state = kind(2), None
    for _ in range(2):
        _, state = neuron.step(torch.zeros(3), state)
    with pytest.raises(ConfigError, match=f"this is step 3, accepted: 1 to 2, the time_steps of this {kind.__name__}"):
        neuron.step(torch.zeros(3), state)
    with pytest.raises(ConfigError, match="time_steps is 0, accepted: 1 or more"):
        kind(0)
    for threshold in (0.0, float("nan")):
        with pytest.raises(ConfigError, match=f"threshold is {threshold}, accepted: above 0"):
            kind(2, threshold=threshold)
