"""Channel groups and the removal of channels, on every registered model that can be traced and on awkward ones."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from helpers import close, disturb, logits_of, small_images, small_model
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bitspike.compress import (
    QPSNN,
    QSNN,
    KeepChannels,
    VanillaQuantization,
    apply,
    channel_groups,
    config_from_json,
    config_to_json,
    kept_channels,
    remove_channels,
)
from bitspike.compress.config import CompressionConfig
from bitspike.encode import DirectEncoding
from bitspike.errors import ConfigError, LoweringError
from bitspike.layers import AvgPool, ChannelShortcut, ConvBN, LinearBN, Readout, SpikingUnit, Synapse
from bitspike.models import create_model, list_models
from bitspike.neurons import LIF, PLIF


def is_traceable(name: str) -> bool:
    try:
        return bool(channel_groups(create_model(name, num_classes=2)))
    except (ConfigError, LoweringError):
        return False


with torch.device("meta"):
    PRUNABLE = [name for name in list_models() if is_traceable(name)]
every_model = pytest.mark.parametrize("name", PRUNABLE)
QUANTIZED: dict[str, CompressionConfig | None] = {
    "float": None,
    "vanilla": VanillaQuantization(3, 8),
    "rescaw-max": QPSNN(2, scale="max", edge_bits=4),
}


class Awkward(nn.Module):
    """Two branches added, a shortcut from one of them, a unit used twice, a pool shared by sets, a linear unit."""

    def __init__(self) -> None:
        super().__init__()
        self.encoding = DirectEncoding(3, [100, 7], 0.01)
        self.left = SpikingUnit(LIF(), ConvBN(2, 6, 3))
        self.right = SpikingUnit(PLIF(), ConvBN(2, 6, 3, bias=True))
        self.both = SpikingUnit(LIF(), ConvBN(6, 9, 3), ChannelShortcut(6, 9))
        self.again = SpikingUnit(LIF(), ConvBN(9, 9, 3), nn.Identity())
        self.pool = AvgPool(2)
        self.flat = SpikingUnit(LIF(), LinearBN(9 * 4 * 4, 7))
        self.readout = Readout(7, 5, pool=False)

    def forward(self, samples: Tensor) -> Tensor:
        x = self.encoding(samples)
        left = self.left(x)
        both = self.both(left + self.right(x), left)
        twice = self.again(self.again(both, both), both)
        logits: Tensor = self.readout(self.flat(self.pool(twice)))
        return logits


def awkward(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return disturb(Awkward()).eval()


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A model in double precision, and samples for it."""
    if name == "awkward":
        return awkward().double(), small_images("vggsnn", 6)
    return small_model(name).double().eval(), small_images(name, 6)


def some_channels(model: nn.Module, seed: int = 0) -> dict[str, list[int]]:
    """About half of every group."""
    draw = random.Random(seed)
    return {g.name: sorted(draw.sample(range(g.size), max(1, g.size // 2))) for g in channel_groups(model)}


def silence(model: nn.Module, keep: dict[str, list[int]]) -> nn.Module:
    """A copy in which the channels outside ``keep`` never fire."""
    silent = copy.deepcopy(model)
    for group in channel_groups(silent):
        gone = [c for c in range(group.size) if c not in keep[group.name]]
        for unit in map(silent.get_submodule, group.producers):
            for synapse in (c for c in unit.currents if isinstance(c, Synapse)):
                synapse.norm.weight.data[gone] = 0
                synapse.norm.bias.data[gone] = -100
    return silent


def lift_first_inputs(model: nn.Module) -> None:
    """Put the largest weights of every layer on its first input, so that no removal of others moves a "max" scale."""
    for layer in (m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        layer.weight.data[:, 0] = 2 * layer.weight.data.abs().max() * layer.weight.data[:, 0].sign()


def test_groups_of_the_awkward_model() -> None:
    left, both, flat = channel_groups(awkward())
    assert (left.name, left.size, left.producers) == ("left", 6, ("left", "right")) and left.consumers == ("both",)
    assert (both.name, both.size, both.producers) == ("both", 9, ("both", "again"))
    assert both.consumers == ("again", "flat")
    assert (flat.name, flat.size, flat.consumers) == ("flat", 7, ("readout",))


def test_groups_of_a_residual_network() -> None:
    groups = {g.name: g for g in channel_groups(small_model("resnet20"))}
    assert list(groups) == ["stem.0", "stages.0.first", "stages.0.second"] + [
        f"stages.{n}.{unit}" for n, unit in ((1, "first"), (1, "second"), (2, "first"))
    ]
    assert groups["stages.1.second"].producers == ("stages.1.second", "stages.2.second")
    assert groups["stages.1.second"].consumers == ("stages.2.first", "readout")
    assert groups["stem.0"].consumers == ("stages.0.first", "stages.0.second"), "the padded shortcut is free of ties"


@every_model
def test_every_unit_is_in_one_group(name: str) -> None:
    model = small_model(name)
    written = [unit for group in channel_groups(model) for unit in group.producers]
    units = [key for key, module in model.named_modules() if isinstance(module, SpikingUnit)]
    assert sorted(written) == sorted(units)


@pytest.mark.parametrize("name", [*PRUNABLE, "awkward"])
def test_keeping_everything_changes_nothing(name: str) -> None:
    model, samples = build(name)
    same = remove_channels(model, {g.name: range(g.size) for g in channel_groups(model)})
    assert same is not model and torch.equal(logits_of(same, samples), logits_of(model, samples))
    assert {k: v.shape for k, v in same.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@pytest.mark.parametrize("form", QUANTIZED)
@pytest.mark.parametrize("name", [*PRUNABLE, "awkward"])
def test_removing_channels_that_never_fire_changes_nothing(name: str, form: str) -> None:
    model, samples = build(name)
    keep = {name: sorted({0, *kept}) for name, kept in some_channels(model).items()}
    lift_first_inputs(model)
    model, config = silence(model, keep), QUANTIZED[form]
    if config is not None:
        apply(model, config)
    before, state = logits_of(model, samples), copy.deepcopy(model.state_dict())
    assert before.std() > 0
    smaller = remove_channels(model, keep)
    close(logits_of(smaller, samples), before)
    count = [sum(p.numel() for p in m.parameters()) for m in (smaller, model)]
    assert count[0] < 0.8 * count[1]
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items()), "the model itself was changed"


@pytest.mark.parametrize("name", [*PRUNABLE, "awkward"])
def test_layers_say_their_new_shapes(name: str) -> None:
    model, _ = build(name)
    smaller = remove_channels(apply(model, QSNN(membrane_bits=None)), some_channels(model))
    for module in smaller.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels)
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            assert {len(t) for t in (module.weight, module.bias, module.running_mean)} == {module.num_features}
        elif isinstance(module, ChannelShortcut):
            assert module.weight().shape[:2] == (module.out_channels, module.in_channels)
            assert len(module.sources) == module.out_channels


@every_model
def test_a_smaller_model_trains(name: str) -> None:
    model = apply(small_model(name), QPSNN(4))
    smaller = remove_channels(model, some_channels(model)).train()
    smaller(small_images(name, 6)).square().sum().backward()
    for key, parameter in smaller.named_parameters():
        assert parameter.grad is not None and parameter.grad.shape == parameter.shape, key
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("quantize_first", [True, False])
@pytest.mark.parametrize("name", [*PRUNABLE, "awkward"])
def test_a_removal_is_recorded_and_repeated_on_a_fresh_model(name: str, quantize_first: bool) -> None:
    """Two removals in a row compose into one record in indices of the model as built."""
    (model, samples), (fresh, _) = build(name), build(name)
    apply(model, QPSNN(4))
    for seed in (1, 2):
        assert apply(model, KeepChannels({k: tuple(v) for k, v in some_channels(model, seed).items()})) is model
    record = config_from_json(config_to_json(kept_channels(model)))
    assert record == kept_channels(model)
    for config in [QPSNN(4), record] if quantize_first else [record, QPSNN(4)]:
        apply(fresh, config)
    for ours, theirs in zip(fresh.parameters(), model.parameters(), strict=True):
        assert ours.shape == theirs.shape
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(logits_of(fresh, samples), logits_of(model, samples))
    assert kept_channels(fresh) == kept_channels(model)


def test_record_of_an_untouched_model_is_empty() -> None:
    assert kept_channels(small_model("vggsnn")) == KeepChannels({})


def test_per_weight_and_per_channel_tensors_of_a_parametrization_are_cut() -> None:
    class Mask(nn.Module):
        def __init__(self, weight: Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", (torch.rand_like(weight) > 0.5).float())
            self.register_buffer("rows", torch.rand(len(weight)))
            self.step = nn.Parameter(torch.rand(len(weight), 1, 1, 1))

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.mask * self.rows.view(-1, 1, 1, 1) * self.step

    model, samples = small_model("vggsnn").eval(), small_images("vggsnn", 3)
    layer = model.features[2].currents[0].layer
    parametrize.register_parametrization(layer, "weight", Mask(layer.weight))
    whole = layer.weight.detach().clone()
    smaller = remove_channels(model, {"features.0": [1, 3], "features.2": [0, 4, 5]})
    cut = smaller.features[2].currents[0].layer.weight
    assert torch.equal(cut, whole[[0, 4, 5]][:, [1, 3]])
    assert logits_of(smaller, samples).isfinite().all()


class InputAdded(nn.Module):
    """A unit whose shortcut is the input itself: its channels are the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoding = DirectEncoding(2, [0, 0], 0.01)
        self.unit = SpikingUnit(LIF(), ConvBN(2, 2, 3), nn.Identity())
        self.readout = Readout(2, 3, pool=True)

    def forward(self, samples: Tensor) -> Tensor:
        x = self.encoding(samples)
        logits: Tensor = self.readout(self.unit(x, x))
        return logits


def test_channels_tied_to_the_input_are_fixed() -> None:
    model = InputAdded()
    assert channel_groups(model) == []
    with pytest.raises(ConfigError, match="no channel group 'unit'"):
        remove_channels(model, {"unit": [0]})
