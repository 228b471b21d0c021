"""Neurons with spikes of both signs, and neurons whose threshold rises with their own spikes."""

from __future__ import annotations

import pytest
import torch
from helpers import MEMBRANES, close
from torch import nn

from bitspike.errors import ConfigError
from bitspike.neurons import LIF, AdaptiveLIF, TernaryLIF, observe_rates
from bitspike.ops import Triangle

RESETS = ["hard", "soft"]


@pytest.mark.parametrize("membrane", [m for m in MEMBRANES if "pow2" not in m])  # that grid rounds all halves up
@pytest.mark.parametrize("reset", RESETS)
def test_turning_the_sign_of_all_currents_turns_that_of_all_spikes(reset: str, membrane: str) -> None:
    neuron = TernaryLIF(0.9, reset=reset, membrane=MEMBRANES[membrane]()).eval()
    current = 1.5 * torch.randn(6, 30, 5)
    spikes = neuron(current)
    assert torch.equal(neuron(-current), -spikes) and set(spikes.unique().tolist()) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_ternary_neurons_that_stay_above_the_lower_threshold_are_lif_neurons(reset: str, detach: bool) -> None:
    results = []
    for make in (LIF, TernaryLIF):
        current = 2 * torch.rand(5, 30, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        spikes = make(0.5, reset=reset, detach_reset=detach, surrogate=Triangle(0.9))(current.requires_grad_())
        spikes.square().sum().backward()
        results.append((spikes, current.grad))
    assert torch.equal(results[0][0], results[1][0])
    close(results[0][1], results[1][1])


def test_both_signs_reset_the_membrane() -> None:
    for sign in (1.0, -1.0):
        _, hard = TernaryLIF().step(sign * torch.tensor([1.5, 0.7]))
        _, soft = TernaryLIF(reset="soft").step(sign * torch.tensor([1.5, 0.7]))
        close(hard, sign * torch.tensor([0.0, 0.7]))
        close(soft, sign * torch.tensor([0.5, 0.7]))


def test_ternary_membranes_are_those_the_spikes_are_decided_on() -> None:
    neuron = TernaryLIF(threshold=0.6)
    current = torch.randn(5, 9, 3)
    u = neuron.membranes(current)
    assert torch.equal(neuron(current), (u > 0.6).float() - (u < -0.6).float())


def test_spikes_of_both_signs_count_as_firing() -> None:
    model = nn.Sequential(TernaryLIF())
    with observe_rates(model) as rates:
        spikes = model(torch.tensor([[2.0, -2.0, 0.1, -0.1]]))
    assert spikes.mean() == 0 and rates[0].rate == 0.5


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_without_strength_an_adaptive_neuron_is_a_lif(reset: str, detach: bool) -> None:
    results = []
    for make in (LIF, lambda **o: AdaptiveLIF(strength=0.0, **o)):
        current = (0.7 + torch.randn(6, 20, 3, generator=torch.Generator().manual_seed(1))).requires_grad_()
        spikes = make(reset=reset, detach_reset=detach)(current)
        spikes.square().sum().backward()
        results.append((spikes, current.grad))
    assert torch.equal(results[0][0], results[1][0])
    close(results[0][1], results[1][1])


def test_every_spike_raises_the_threshold_and_it_decays_back() -> None:
    """Threshold 1 + 2 a: after one spike 1.5, then 1.25 and so on; a current of 1.3 fires again two steps later."""
    neuron = AdaptiveLIF(0.0, strength=2.0, decay=0.75)
    state, thresholds, spikes = None, [], []
    for x in [1.3, 1.3, 1.3, 1.3, 0.0, 0.0]:
        s, state = neuron.step(torch.tensor([x]), state)
        spikes.append(s.item())
        thresholds.append(1 + 2 * state[1].item())
    assert spikes == [1, 0, 0, 1, 0, 0]
    assert thresholds == pytest.approx([1.5, 1.375, 1.28125, 1.7109375, 1.533203125, 1.39990234375])


@pytest.mark.parametrize("reset", RESETS)
def test_adaptive_membranes_are_those_the_spikes_are_decided_on(reset: str) -> None:
    neuron = AdaptiveLIF(reset=reset, decay=0.5)
    current = 1 + torch.randn(7, 20, 3)
    spikes, adaptation = neuron(current), torch.zeros(20, 3)
    for u, s in zip(neuron.membranes(current), spikes, strict=True):
        assert torch.equal(s, (u > 1 + 1.8 * adaptation).float())
        adaptation = 0.5 * adaptation + 0.5 * s
    assert spikes.sum() < LIF(reset=reset)(current).sum()


BAD = {
    "ternary-leak": (lambda: TernaryLIF(-0.1), "leak is -0.1, accepted: 0 to 1"),
    "ternary-threshold": (lambda: TernaryLIF(threshold=0.0), "threshold is 0.0, accepted: above 0"),
    "ternary-reset": (lambda: TernaryLIF(reset="none"), "reset is 'none', accepted: hard, soft"),
    "adaptive-decay": (lambda: AdaptiveLIF(decay=1.1), "decay is 1.1, accepted: 0 to 1"),
    "adaptive-threshold": (lambda: AdaptiveLIF(threshold=float("nan")), "threshold is nan, accepted: above 0"),
    "adaptive-strength": (lambda: AdaptiveLIF(strength=-1.0), "strength is -1.0, accepted: 0 or more"),
    "adaptive-reset": (lambda: AdaptiveLIF(reset="none"), "reset is 'none', accepted: hard, soft"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        make()
