"""Channels that zero weights have made useless: found by hand-made cases, removed without a changed logit."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from helpers import close, disturb, logits_of, small_images, small_model
from torch import Tensor, nn

from bitspike.compress import (
    DynamicTanhMembrane,
    KeepChannels,
    PowerOfTwoMembrane,
    RemoveZeroChannels,
    SoftThresholdPruning,
    applied,
    apply,
    bake,
    channel_groups,
    freeze_mask,
    remove_channels,
    threshold_driver,
    weight_layers,
    zero_channels,
)
from bitspike.errors import ConfigError, LoweringError
from bitspike.layers import SpikingUnit
from bitspike.models import list_models
from bitspike.neurons import LIF, Neuron


def traceable(name: str) -> bool:
    try:
        return bool(channel_groups(small_model(name)))
    except (ConfigError, LoweringError):
        return False


MODELS = [name for name in list_models() if traceable(name)]


def vgg(**neuron: object) -> nn.Module:
    """Three units of 6, 5 and 4 channels in float64, in evaluation mode."""
    model = small_model("vggsnn", widths=(6, 5, "P", 4), neuron=functools.partial(LIF, **neuron))
    return model.double().eval()


def unit(model: nn.Module, index: int) -> SpikingUnit:
    return [m for m in model.modules() if isinstance(m, SpikingUnit)][index]


def silence(model: nn.Module, index: int, channel: int, current: float) -> None:
    """No weight drives ``channel`` of the unit; its batch norm leaves ``current``."""
    synapse = unit(model, index).currents[0]
    with torch.no_grad():
        synapse.layer.weight[channel] = 0
        synapse.norm.running_mean[channel] = 0
        synapse.norm.bias[channel] = current


def unread(model: nn.Module, index: int, channel: int) -> None:
    """The next unit has no weight on ``channel`` of this one."""
    with torch.no_grad():
        unit(model, index + 1).currents[0].layer.weight[:, channel] = 0


def removable(model: nn.Module) -> list[tuple[int, ...]]:
    return list(zero_channels(model).values())


def unchanged_by_removal(model: nn.Module, samples: Tensor) -> nn.Module:
    gone = zero_channels(model)
    sizes = {group.name: group.size for group in channel_groups(model)}
    smaller = remove_channels(model, {n: [c for c in range(sizes[n]) if c not in gone[n]] for n in gone})
    close(logits_of(smaller, samples), logits_of(model, samples))
    return smaller


def test_nothing_is_removable_where_every_weight_works() -> None:
    assert removable(vgg()) == [(), (), ()]


@pytest.mark.parametrize("steps_model", [vgg, functools.partial(vgg, reset="soft", leak=1.0)])
def test_a_channel_that_nobody_reads_goes(steps_model: Callable[[], nn.Module]) -> None:
    model = steps_model()
    unread(model, 0, 4)
    assert removable(model) == [(4,), (), ()]
    smaller = unchanged_by_removal(model, small_images("vggsnn", 4))
    assert weight_layers(smaller)["features.1.currents.0.layer"].weight.shape[1] == 5


RESTING: dict[str, tuple[dict[str, object], float, bool]] = {  # neuron, constant current, whether it never fires
    "negative": ({}, -1.0, True),
    "below": ({}, 0.5, True),  # leak 1/2: 0.5, 0.75, 0.875
    "accumulates": ({}, 0.6, False),  # 0.6, 0.9, 1.05
    "at once": ({}, 1.5, False),
    "no leak": ({"leak": 1.0}, 0.4, False),  # 0.4, 0.8, 1.2
    "no leak below": ({"leak": 1.0}, 0.3, True),
    "high threshold": ({"threshold": 2.0}, 0.9, True),
    "on the threshold": ({"leak": 0.0}, 1.0, False),  # u > threshold decides, rounding must not
    "decays input": ({"decay_input": True}, 0.95, True),
    "stored as nothing": ({"membrane": PowerOfTwoMembrane(3, 0), "leak": 1.0}, 0.45, True),  # 0.45 is stored as 0
    "stored upwards": ({"membrane": PowerOfTwoMembrane(3, 0)}, 0.55, False),  # 0.55 is stored as 1: 1.05
}


@pytest.mark.parametrize("case", RESTING)
def test_a_channel_without_weights_goes_only_if_its_neuron_never_fires(case: str) -> None:
    neuron, current, silent = RESTING[case]
    model = vgg(**neuron)
    silence(model, 1, 2, current)
    assert removable(model) == [(), (2,) if silent else (), ()]
    unchanged_by_removal(model, small_images("vggsnn", 4))


def test_a_unit_whose_membrane_range_follows_the_batch_keeps_its_channels() -> None:
    """A channel that nobody reads still takes part in the largest membrane, by which all others are quantized."""
    model = vgg()
    silence(model, 1, 2, -1.0)
    unread(model, 1, 0)
    assert removable(model)[1] == (0, 2)
    unit(model, 1).neuron.membrane = DynamicTanhMembrane(4)
    assert removable(model)[1] == ()


def test_the_rule_for_resting_neurons_is_what_the_network_does() -> None:
    """A channel that fires on its constant current cannot be left out: the logits would change."""
    model, samples = vgg(), small_images("vggsnn", 4)
    silence(model, 1, 2, 0.6)
    without = remove_channels(model, {channel_groups(model)[1].name: [0, 1, 3, 4]})
    assert not torch.allclose(logits_of(without, samples), logits_of(model, samples))


def test_one_removal_makes_others_possible() -> None:
    """The only reader of a channel is read by nobody; the only source of another is silent."""
    model = vgg()
    unread(model, 1, 0)
    silence(model, 1, 4, -1.0)
    middle, last = (unit(model, index).currents[0] for index in (1, 2))
    with torch.no_grad():
        middle.layer.weight[1:, 3] = 0
        last.layer.weight[1, :4] = 0
        last.norm.running_mean[1], last.norm.bias[1] = 0, -0.5
    assert middle.layer.weight[0, 3].any() and last.layer.weight[1, 4].any()
    assert removable(model) == [(3,), (0, 4), (1,)]
    unchanged_by_removal(model, small_images("vggsnn", 4))


def test_one_channel_of_every_group_stays() -> None:
    model = vgg()
    for channel in range(5):
        silence(model, 1, channel, -1.0)
    gone = removable(model)
    assert gone[1] == (1, 2, 3, 4) and all(len(g) < n for g, n in zip(gone, (6, 5, 4), strict=True))
    unchanged_by_removal(model, small_images("vggsnn", 4))


def test_a_residual_channel_goes_only_if_every_unit_that_writes_it_is_silent() -> None:
    model = small_model("resnet19", blocks=(2,)).double().eval()
    group = channel_groups(model)[0]
    assert len(group.producers) == 3, "stem and the second unit of each block"
    for count, producer in enumerate(group.producers):
        assert zero_channels(model)[group.name] == ()
        synapse = model.get_submodule(producer).currents[0]
        with torch.no_grad():
            synapse.layer.weight[1] = 0
            synapse.norm.running_mean[1], synapse.norm.bias[1] = 0, -0.2 * (count + 1)
    assert zero_channels(model)[group.name] == (1,)
    unchanged_by_removal(model, small_images("resnet19", 3))
    for producer in group.producers:
        offset = model.get_submodule(producer).currents[0].norm.bias.data
        offset[1] = 1.5 - offset[1]
        assert zero_channels(model)[group.name] == (), f"{producer} fires without input"
        offset[1] = 1.5 - offset[1]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("final", [0.2, 0.35])
def test_sparse_networks_shrink_without_a_changed_logit(name: str, final: float) -> None:
    config = SoftThresholdPruning(final)
    model, samples = apply(small_model(name, seed=1).double(), config).eval(), small_images(name, 4)
    threshold_driver(config, [1.0])(model, 1.0)
    bake(model)
    before, logits = copy.deepcopy(model), logits_of(model, samples)
    assert apply(model, RemoveZeroChannels()) is model
    close(logits_of(model, samples), logits)
    kept = applied(model)[-1]
    assert isinstance(kept, KeepChannels)
    again = apply(before, kept)
    assert [p.shape for p in again.parameters()] == [p.shape for p in model.parameters()]
    assert not any(zero_channels(model).values()) or min(g.size for g in channel_groups(model)) == 1
    assert kept.channels or (name, final) != ("vggsnn", 0.35)
    close(logits_of(freeze_mask(model), samples), logits)


@pytest.mark.parametrize(
    "attach",
    [lambda m: apply(m, SoftThresholdPruning()), freeze_mask],
    ids=["threshold", "mask"],
)
def test_weights_that_are_not_plain_are_refused(attach: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(ConfigError, match="are parametrized, accepted: plain weights; bake them first"):
        zero_channels(attach(vgg()))


def test_neurons_are_left_in_their_mode() -> None:
    model = disturb(small_model("vggsnn")).train()
    zero_channels(model)
    assert all(m.training for m in model.modules() if isinstance(m, Neuron))
