"""Channels: which layers share them, and their physical removal.

A unit's output channels are one set with those of every unit that an addition or an identity shortcut ties to it;
pools pass them on; synapses, other shortcuts and the readout read them. Removing a channel slices all of these, so that
an ordinary, smaller model is left: nothing is masked.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import AvgPool, ChannelShortcut, MaxPool, Readout, SpikingUnit, Step, Synapse, trace
from .config import Calibration, Trait, register_config
from .slicing import Selection, check_readout, check_unit, slice_readout, slice_unit

__all__ = ["ChannelGroup", "KeepChannels", "channel_groups", "kept_channels", "remove_channels"]

CUTTABLE = (DirectEncoding, SpikingUnit, MaxPool, AvgPool, Readout, type(None))  # what a step may be; None: an addition
INPUT = 0  # the channel set of the encoding, which is step 0


@dataclass(frozen=True)
class ChannelGroup:
    """``size`` channels that can only be removed together.

    name: of the first unit that writes them. producers: all units that do. consumers: units and readout that read them
    through weights or a shortcut of its own channels.
    """

    name: str
    size: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


def channel_groups(model: nn.Module) -> list[ChannelGroup]:
    """The groups of channels in execution order. Channels tied to those of the input are fixed, and in none.

    Raises LoweringError for a model that cannot be traced, ConfigError for currents whose channels are unknown.
    """
    return list(_groups(*_channel_sets(model)).values())


def remove_channels(model: nn.Module, keep: Mapping[str, Sequence[int]]) -> nn.Module:
    """A smaller copy of ``model`` with only the channels ``keep`` names; the model itself is left alone.

    keep: group name -> ascending indices of the channels that stay; groups it does not name stay whole.

    Weights, batch norm and classifier keep the values of what stays. The parameters are new: an optimizer of the old
    ones does not know them. A quantizer that takes its scale from a channel's weights sees fewer of them once inputs
    are gone, so the quantized values of those that stay may move; the real weights behind them do not.
    Raises ConfigError for an unknown group, unusable indices, and layers that cannot be cut (grouped convolutions,
    neurons that hold a value per channel).
    """
    smaller = copy.deepcopy(model)
    remove_in_place(smaller, keep)
    return smaller


@dataclass(frozen=True)
class KeepChannels:
    """Keep of each named channel group the channels with these ascending indices; see :func:`remove_channels`."""

    channels: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "channels", {name: tuple(int(i) for i in kept) for name, kept in self.channels.items()}
        )


@register_config(KeepChannels, version=1, traits=lambda config: frozenset({Trait.REMOVES_CHANNELS}))
def _apply(model: nn.Module, config: KeepChannels, calibration: Calibration) -> None:
    remove_in_place(model, config.channels)


def kept_channels(model: nn.Module) -> KeepChannels:
    """What all removals so far have left, in indices of the model as it was built.

    Applied to a fresh model of the same options, it gives the shape of this one, whose weights then fit.
    """
    return KeepChannels(dict(model.__dict__.get("kept_channels", {})))


def _channel_sets(model: nn.Module) -> tuple[list[Step], list[int]]:
    """The steps, and for each the set its output channels are in: the index of the first step that carries them."""
    steps = trace(model)
    for step in steps:
        if not isinstance(step.module, CUTTABLE):
            raise ConfigError(
                f"{step.name!r} is a {type(step.module).__name__}: channels can be removed from networks of SpikingUnits, "
                "pools and a Readout only"
            )
    parent = list(range(len(steps)))

    def root(index: int) -> int:
        return index if parent[index] == index else root(parent[index])

    def tie(one: int, other: int) -> None:
        first, second = sorted((root(one), root(other)))
        parent[second] = first

    first_call: dict[int, int] = {}  # of a unit that the model calls more than once
    for index, step in enumerate(steps):
        if isinstance(step.module, SpikingUnit):
            for current, source in zip(step.module.currents, step.sources, strict=True):
                if isinstance(current, nn.Identity):
                    tie(index, source)
                elif not isinstance(current, Synapse | ChannelShortcut):
                    raise ConfigError(
                        f"{step.name!r} has a {type(current).__name__} as current, whose channels are unknown here; "
                        "accepted: synapses, ChannelShortcut, Identity"
                    )
            before = first_call.setdefault(id(step.module), index)
            for one, other in zip((index, *step.sources), (before, *steps[before].sources), strict=True):
                tie(one, other)
        elif not isinstance(step.module, Readout):  # pools and additions pass channels on
            for source in step.sources:
                tie(index, source)
    return steps, [root(index) for index in range(len(steps))]


def _groups(steps: list[Step], sets: list[int]) -> dict[int, ChannelGroup]:
    """The removable groups by their set, in execution order."""
    producers: dict[int, list[str]] = {}
    consumers: dict[int, list[str]] = {}
    for step, own in zip(steps, sets, strict=True):
        read = step.sources
        if isinstance(step.module, SpikingUnit):
            producers.setdefault(own, []).append(step.name)
            read = tuple(s for s, c in zip(read, step.module.currents, strict=True) if not isinstance(c, nn.Identity))
        elif not isinstance(step.module, Readout):
            continue
        for source in read:
            consumers.setdefault(sets[source], []).append(step.name)
    return {
        own: ChannelGroup(names[0], _width(steps[own].module), _unique(names), _unique(consumers.get(own, [])))
        for own, names in sorted(producers.items())
        if own != INPUT
    }


def _width(unit: object) -> int:
    """Output channels of the first unit of a group, which does not have them from an identity alone."""
    assert isinstance(unit, SpikingUnit)
    widths = [c.norm.num_features for c in unit.currents if isinstance(c, Synapse)]
    return (widths + [c.out_channels for c in unit.currents if isinstance(c, ChannelShortcut)])[0]


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def remove_in_place(model: nn.Module, keep: Mapping[str, Sequence[int]]) -> None:
    """:func:`remove_channels` on the model itself; everything is checked before anything changes."""
    steps, sets = _channel_sets(model)
    groups = _groups(steps, sets)
    names = [group.name for group in groups.values()]
    unknown = [name for name in keep if name not in names]
    if unknown:
        raise ConfigError(
            f"the model has no channel group {', '.join(map(repr, unknown))}, accepted: {', '.join(names)}"
        )
    selected = {own: _selection(group, keep[group.name]) for own, group in groups.items() if group.name in keep}
    calls = {id(step.module): (step, own) for step, own in zip(steps, sets, strict=True)}  # a repeated unit, once
    cuts = [
        (s.module, s.name, selected.get(own), [selected.get(sets[i]) for i in s.sources]) for s, own in calls.values()
    ]
    for module, name, outputs, inputs in cuts:
        if isinstance(module, SpikingUnit):
            check_unit(name, module, outputs, inputs)
        elif isinstance(module, Readout):
            check_readout(name, module, inputs[0])
    for module, name, outputs, inputs in cuts:
        if isinstance(module, SpikingUnit):
            slice_unit(name, module, outputs, inputs)
        elif isinstance(module, Readout):
            slice_readout(name, module, inputs[0])
    before = kept_channels(model).channels
    now = {name: tuple(before[name][i] for i in kept) if name in before else tuple(kept) for name, kept in keep.items()}
    model.__dict__["kept_channels"] = before | now


def _selection(group: ChannelGroup, kept: Sequence[int]) -> Selection:
    indices = [int(i) for i in kept]
    if not indices or indices != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < group.size:
        raise ConfigError(
            f"channels {list(kept)} of {group.name!r}, accepted: at least one index, ascending, 0 to {group.size - 1}"
        )
    return Selection(torch.tensor(indices), group.size)
