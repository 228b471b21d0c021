"""Whole channels that single zero weights have made useless, found and removed without changing any logit.

A channel can go for one of two reasons. Nothing reads it: every weight that reads it is zero. Or it is silent: every
weight that drives it is zero, which leaves the constant current of its batch norm, and its neuron does not fire on that.
A channel without weights whose neuron does fire is a constant input to the next layer, not a dead one, and stays.
Removing a channel may make others removable, so both rules repeat until nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import ChannelShortcut, Readout, SpikingUnit, Step, Synapse, trace
from ..layers.norm import batch_norm_affine
from .channels import KeepChannels, channel_groups, remove_in_place
from .config import Calibration, Trait, register_config
from .membrane import DynamicTanhMembrane
from .mixed import weight_layers

__all__ = ["RemoveZeroChannels", "zero_channels"]

MARGIN = 1e-5  # of the current; rounding in batch norm must not decide whether a neuron fires


@dataclass(frozen=True)
class RemoveZeroChannels:
    """Remove the channels that :func:`zero_channels` finds; recorded as the :class:`KeepChannels` it comes to."""


@register_config(RemoveZeroChannels, version=1, traits=lambda config: frozenset({Trait.REMOVES_CHANNELS}))
def _apply(model: nn.Module, config: RemoveZeroChannels, calibration: Calibration) -> KeepChannels:
    removable = zero_channels(model)
    sizes = {group.name: group.size for group in channel_groups(model)}
    keep = {n: tuple(c for c in range(sizes[n]) if c not in set(gone)) for n, gone in removable.items() if gone}
    remove_in_place(model, keep)
    return KeepChannels(keep)


@dataclass(frozen=True)
class _Link:
    """Weights from group ``source`` to group ``target`` (None: input, readout): ``used`` (M, C) is where any is not zero."""

    source: str | None
    target: str | None
    used: Tensor

    def drives(self, alive: dict[str, Tensor]) -> Tensor:
        """(M,): whether any living channel of the source drives each of the target."""
        return (self.used if self.source is None else self.used & alive[self.source]).any(1)

    def reads(self, alive: dict[str, Tensor]) -> Tensor:
        """(C,): whether any living channel of the target reads each of the source."""
        return (self.used if self.target is None else self.used & alive[self.target][:, None]).any(0)


@torch.no_grad()
def zero_channels(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Channel group -> ascending indices whose removal leaves the logits in evaluation mode as they are.

    Groups are those of :func:`bitspike.compress.channel_groups`; at least one channel of each stays. Whether a neuron
    fires is decided by running it on the constant current for the model's T steps. Units whose membrane range follows
    the batch keep all channels: every channel has a say in that range. Float logits may differ in the order of sums.

    Raises ConfigError for weights under a threshold, mask or quantizer (bake them, quantize afterwards: the scale of a
    quantizer may come from a weight that would be removed), and what ``channel_groups`` raises.
    """
    attached = [name for name, layer in weight_layers(model).items() if parametrize.is_parametrized(layer, "weight")]
    if attached:
        raise ConfigError(
            f"weights of {', '.join(attached)} are parametrized, accepted: plain weights; bake them first"
        )
    groups, steps = channel_groups(model), trace(model)
    group_of = {unit: group.name for group in groups for unit in group.producers}
    sizes = {group.name: group.size for group in groups}
    links = _links(steps, group_of, sizes)
    silent = _silent_without_input(steps, group_of, sizes)
    alive = {name: torch.ones(size, dtype=torch.bool) for name, size in sizes.items()}
    candidates = [group.name for group in groups if not any(_shares_range(model, unit) for unit in group.producers)]
    changed = True
    while changed:
        changed = False
        for name in candidates:
            driven = _any([link.drives(alive) for link in links if link.target == name], sizes[name])
            read = _any([link.reads(alive) for link in links if link.source == name], sizes[name])
            left = alive[name] & read & (driven | ~silent[name])
            if not left.any():
                left[alive[name].nonzero()[0]] = True
            changed |= bool((left != alive[name]).any())
            alive[name] = left
    return {name: tuple((~mask).nonzero().flatten().tolist()) for name, mask in alive.items()}


def _shares_range(model: nn.Module, unit: str) -> bool:
    module = model.get_submodule(unit)
    return isinstance(module, SpikingUnit) and isinstance(module.neuron.membrane, DynamicTanhMembrane)


def _any(flags: Sequence[Tensor], size: int) -> Tensor:
    return torch.stack([torch.zeros(size, dtype=torch.bool), *flags]).any(0)


def _links(steps: list[Step], group_of: dict[str, str], sizes: dict[str, int]) -> list[_Link]:
    links = []
    for step in steps:
        if isinstance(step.module, SpikingUnit):
            currents: Sequence[nn.Module] = list(step.module.currents)
        elif isinstance(step.module, Readout):
            currents = [step.module]
        else:
            continue
        for current, index in zip(currents, step.sources, strict=True):
            if isinstance(current, Synapse | Readout | ChannelShortcut):  # an identity stays inside its group
                source = group_of.get(_writer(steps, index))
                links.append(_Link(source, group_of.get(step.name), _used(current, sizes.get(source or "", 1))))
    return links


def _writer(steps: list[Step], index: int) -> str:
    """Name of the unit, or of the encoding, whose channels step ``index`` carries."""
    while not isinstance(steps[index].module, SpikingUnit | DirectEncoding):
        index = steps[index].sources[0]
    return steps[index].name


def _used(current: Synapse | Readout | ChannelShortcut, channels: int) -> Tensor:
    weight = current.weight() if isinstance(current, ChannelShortcut) else current.layer.weight
    used = (weight != 0).cpu()
    if getattr(getattr(current, "layer", None), "groups", 1) != 1:
        return torch.ones(len(used), channels, dtype=torch.bool)  # cannot be cut: every channel counts as used
    return used.reshape(len(used), channels, -1).any(2)


def _silent_without_input(steps: list[Step], group_of: dict[str, str], sizes: dict[str, int]) -> dict[str, Tensor]:
    """Per group (C,): whether no unit that writes a channel fires when none of its weights does anything."""
    silent = {name: torch.ones(size, dtype=torch.bool) for name, size in sizes.items()}
    encoding = steps[0].module
    assert isinstance(encoding, DirectEncoding)
    for step in steps:
        if isinstance(step.module, SpikingUnit) and step.name in group_of:
            silent[group_of[step.name]] &= _resting_unit_is_silent(step.module, encoding.time_steps)
    return silent


def _resting_unit_is_silent(unit: SpikingUnit, time_steps: int) -> Tensor:
    offsets = [_resting_current(current) for current in unit.currents if isinstance(current, Synapse)]
    constant = torch.stack(offsets).sum(0) if offsets else torch.zeros(1)
    shaken = torch.stack([constant - MARGIN, constant, constant + MARGIN])[None, :, :, None, None]
    was_training = unit.neuron.training
    spikes: Tensor = unit.neuron.eval()(shaken.expand(time_steps, *shaken.shape[1:]))
    unit.neuron.train(was_training)
    return ~spikes.ne(0).flatten(3).any(3).any(0).any(0).cpu()


def _resting_current(synapse: Synapse) -> Tensor:
    """(C,): the current of a synapse whose weights all are zero, in evaluation mode."""
    gain, offset = batch_norm_affine(synapse.norm)
    return offset if synapse.layer.bias is None else offset + gain * synapse.layer.bias
