"""Membrane quantizers: levels, the running range, and freezing it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from helpers import close
from torch import nn

from bitspike.compress import DynamicTanhMembrane, FrozenTanhMembrane, PowerOfTwoMembrane, freeze_membranes
from bitspike.data import DataBundle, Split
from bitspike.errors import ConfigError
from bitspike.learn import evaluate
from bitspike.neurons import LIF


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_point_05_dynamic_membrane_levels(bits: int) -> None:
    u = 0.6 * torch.randn(4000)
    u = torch.cat([u, -u, torch.zeros(1)])
    q = DynamicTanhMembrane(bits)(u)
    alpha, top = torch.tanh(u).abs().max(), 2 ** (bits - 1) - 1
    levels = q.unique()
    assert len(levels) <= 2**bits - 1 and (levels == 0).any() and q.abs().max() < 1
    close(levels, -levels.flip(0))
    close(q, alpha * torch.round(torch.tanh(u) / alpha * top) / top)
    if bits >= 8:
        assert (q - torch.tanh(u)).abs().max() <= alpha / (2 * 127) + 1e-6


@pytest.mark.parametrize("bits", [2, 8])
def test_point_05_all_zero_membrane_gives_zeros(bits: int) -> None:
    u = torch.zeros(3, 4, requires_grad=True)
    q = DynamicTanhMembrane(bits)(u)
    q.sum().backward()
    assert torch.equal(q, torch.zeros(3, 4)) and u.grad.isfinite().all()


def test_gradient_does_not_pass_through_the_range() -> None:
    u = torch.tensor([0.1, -0.4, 0.9], dtype=torch.float64, requires_grad=True)
    DynamicTanhMembrane(8)(u).sum().backward()
    close(u.grad, 1 - torch.tanh(u.detach()) ** 2)


def test_running_range_moves_by_a_tenth_in_training_only() -> None:
    membrane, expected = DynamicTanhMembrane(4), 1.0
    for peak in (0.5, 0.1, 2.0):
        membrane(torch.tensor([peak, -peak / 2]))
        expected = 0.9 * expected + 0.1 * math.tanh(peak)
        assert membrane.running_alpha.item() == pytest.approx(expected, rel=1e-6)
    membrane.eval()(torch.tensor([0.01]))
    assert membrane.running_alpha.item() == pytest.approx(expected, rel=1e-6)
    assert "running_alpha" in membrane.state_dict()


def test_empty_batch_does_not_move_the_running_range() -> None:
    membrane = DynamicTanhMembrane(4)
    membrane(torch.zeros(0, 3))
    assert membrane.running_alpha.item() == 1.0


def test_frozen_membrane_ignores_the_batch() -> None:
    u = torch.randn(5, 7)
    frozen = FrozenTanhMembrane(4, 0.75)
    assert torch.equal(frozen(u)[:2], frozen(u[:2])) and frozen(10 * u).abs().max() == 0.75
    dynamic = DynamicTanhMembrane(4)
    assert not torch.equal(dynamic(u)[:2], dynamic(u[u.abs().amax(1).argsort()])[:2])


@pytest.mark.parametrize("bits, limit, expected", [(4, 1.0, -3), (2, 1.0, 0), (8, 1.0, -7), (3, 0.6, -2), (4, 14.0, 1)])
def test_covering_grid_is_the_nearest_power_of_two(bits: int, limit: float, expected: int) -> None:
    membrane = PowerOfTwoMembrane.covering(bits, limit)
    assert membrane.log2_step == expected
    reach = (2 ** (bits - 1) - 1) * 2.0**expected
    assert limit / math.sqrt(2) <= reach <= limit * math.sqrt(2)


def dynamic_net(alpha: float) -> nn.Module:
    model = nn.Sequential(
        LIF(membrane=DynamicTanhMembrane(4)), nn.Sequential(LIF()), LIF(membrane=DynamicTanhMembrane(3))
    )
    for neuron in (model[0], model[2]):
        neuron.membrane.running_alpha.fill_(alpha)
    return model


@pytest.mark.parametrize("rule, kind", [("power-of-two", PowerOfTwoMembrane), ("tanh", FrozenTanhMembrane)])
def test_freeze_membranes(rule: str, kind: type) -> None:
    model = dynamic_net(0.8)
    assert freeze_membranes(model, rule) is model
    assert [type(model[0].membrane), model[1][0].membrane, type(model[2].membrane)] == [kind, None, kind]
    assert [model[0].membrane.bits, model[2].membrane.bits] == [4, 3]
    if rule == "tanh":
        assert model[0].membrane.alpha.item() == pytest.approx(0.8)
    else:
        assert model[0].membrane.log2_step == round(math.log2(0.8 / 7))
    before = copy.deepcopy(model.state_dict())
    freeze_membranes(model, rule)
    assert model.state_dict().keys() == before.keys()


def test_freeze_membranes_refuses_unknown_rule() -> None:
    with pytest.raises(ConfigError, match="membrane rule is 'median', accepted: power-of-two, tanh"):
        freeze_membranes(dynamic_net(0.8), "median")


@pytest.mark.parametrize("alpha", [0.0, 1e-30])
@pytest.mark.parametrize("rule", ["power-of-two", "tanh"])
def test_freeze_membranes_of_a_layer_that_was_always_silent(rule: str, alpha: float) -> None:
    """A range of zero was seen (or nearly): the frozen grid must still give finite numbers."""
    model = freeze_membranes(dynamic_net(alpha), rule)
    u = torch.tensor([0.0, 0.3, -2.0])
    assert model[0].membrane(u).isfinite().all()


@pytest.mark.slow
def test_frozen_range_keeps_the_accuracy(trained_qsnn: nn.Module, digits: DataBundle) -> None:
    """On all 1,797 digits: within 0.5 % (9 digits) of the batch-dependent rule."""
    parts = (digits.train, digits.validation, digits.test)
    everything = Split(np.concatenate([s.inputs for s in parts]), np.concatenate([s.labels for s in parts]))
    dynamic = evaluate(trained_qsnn, everything)
    frozen = evaluate(freeze_membranes(copy.deepcopy(trained_qsnn), "tanh"), everything)
    assert dynamic.samples == 1797 and dynamic.accuracy > 0.8
    assert abs(frozen.accuracy - dynamic.accuracy) <= 0.005
