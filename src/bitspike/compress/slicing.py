"""Slicing layers in place: the same unit or readout on fewer channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from ..layers import ChannelShortcut, Readout, SpikingUnit, Synapse

__all__ = ["Selection", "check_readout", "check_unit", "slice_readout", "slice_unit"]

NORM_VECTORS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Selection:
    """The channels of a set that stay: ``indices`` (K,), ascending, of ``size``."""

    indices: Tensor
    size: int

    def features(self, features: int) -> Tensor:
        """Indices of what stays of ``features`` flattened from (C, H, W)."""
        area = features // self.size
        return (self.indices[:, None] * area + torch.arange(area)).flatten()


def check_unit(name: str, unit: SpikingUnit, outputs: Selection | None, inputs: Sequence[Selection | None]) -> None:
    """ConfigError naming the unit and the reason where :func:`slice_unit` cannot cut it."""
    for current, read in zip(unit.currents, inputs, strict=True):
        if not isinstance(current, Synapse) or (outputs is None and read is None):
            continue
        groups = getattr(current.layer, "groups", 1)
        if groups != 1:
            raise ConfigError(
                f"{name!r} has a convolution in {groups} groups, whose channels belong together in ways that removing "
                "single ones would break; accepted: convolutions in one group"
            )
        for axis, selection in enumerate((outputs, read)):
            if selection is not None:
                _weight_tensors(name, current.layer, axis)
    if outputs is not None:
        for key, value in (*unit.neuron.named_parameters(), *unit.neuron.named_buffers()):
            if value.numel() != 1:
                raise ConfigError(
                    f"the neuron of {name!r} holds {key!r} of shape {tuple(value.shape)}; channels can be removed "
                    "where neurons hold one number for all of them"
                )


def check_readout(name: str, readout: Readout, read: Selection | None) -> None:
    """ConfigError naming the readout and the reason where :func:`slice_readout` cannot cut it."""
    if read is not None:
        _weight_tensors(name, readout.layer, 1)


def slice_unit(name: str, unit: SpikingUnit, outputs: Selection | None, inputs: Sequence[Selection | None]) -> None:
    """Keep the selected output channels of the unit, and of every current the selected inputs; None keeps all."""
    for current, read in zip(unit.currents, inputs, strict=True):
        if isinstance(current, Synapse):
            _slice_synapse(name, current, outputs, read)
        elif isinstance(current, ChannelShortcut):
            _slice_shortcut(current, outputs, read)


def slice_readout(name: str, readout: Readout, read: Selection | None) -> None:
    """Keep the classifier's weights on the selected channels."""
    if read is not None:
        _slice_inputs(name, readout.layer, read)


def _slice_synapse(name: str, synapse: Synapse, outputs: Selection | None, inputs: Selection | None) -> None:
    layer, norm = synapse.layer, synapse.norm
    if inputs is not None:
        _slice_inputs(name, layer, inputs)
    if outputs is None:
        return
    _slice_weight(name, layer, 0, outputs.indices)
    if layer.bias is not None:
        _replace(layer, "bias", 0, outputs.indices)
    for vector in NORM_VECTORS:
        if getattr(norm, vector) is not None:
            _replace(norm, vector, 0, outputs.indices)
    norm.num_features = len(outputs.indices)
    if isinstance(layer, nn.Conv2d):
        layer.out_channels = len(outputs.indices)
    else:
        layer.out_features = len(outputs.indices)


def _slice_inputs(name: str, layer: nn.Conv2d | nn.Linear, inputs: Selection) -> None:
    if isinstance(layer, nn.Conv2d):
        _slice_weight(name, layer, 1, inputs.indices)
        layer.in_channels = len(inputs.indices)
    else:
        kept = inputs.features(layer.in_features)
        _slice_weight(name, layer, 1, kept)
        layer.in_features = len(kept)


def _slice_shortcut(shortcut: ChannelShortcut, outputs: Selection | None, inputs: Selection | None) -> None:
    sources = shortcut.sources
    if inputs is not None:
        place = sources.new_full((inputs.size + 1,), -1)  # the last entry answers for -1, no source
        place[inputs.indices.to(sources.device)] = torch.arange(len(inputs.indices), device=sources.device)
        sources = place[sources]
        shortcut.in_channels = len(inputs.indices)
    if outputs is not None:
        sources = sources[outputs.indices.to(sources.device)]
        shortcut.out_channels = len(outputs.indices)
    shortcut.sources = sources


def _slice_weight(name: str, layer: nn.Module, axis: int, indices: Tensor) -> None:
    for owner, key, own_axis in _weight_tensors(name, layer, axis):
        _replace(owner, key, own_axis, indices)


def _weight_tensors(name: str, layer: nn.Module, axis: int) -> list[tuple[nn.Module, str, int]]:
    """(module, tensor name, axis) of everything that runs along ``axis`` of the layer's weight.

    Under a parametrization these are the parameter behind it and what the quantizers keep per weight or per channel.
    """
    if not parametrize.is_parametrized(layer, "weight"):
        return [(layer, "weight", axis)]
    attached = layer.parametrizations["weight"]  # type: ignore[index]
    shape = attached.original.shape  # type: ignore[union-attr]
    found = []
    for owner in attached.modules():  # type: ignore[union-attr]
        for key, value in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)):
            per_channel = value.dim() == 1 and len(value) == shape[0]
            if per_channel and axis == 0:
                found.append((owner, key, 0))
            elif value.dim() == len(shape) and value.shape[axis] == shape[axis]:
                found.append((owner, key, axis))
            elif not (per_channel or value.numel() == 1 or (value.dim() == len(shape) and value.shape[axis] == 1)):
                raise ConfigError(
                    f"{type(owner).__name__} on the weight of {name!r} holds {key!r} of shape {tuple(value.shape)}, "
                    "which cannot be cut to fewer channels; accepted: one number, one per output channel or per weight"
                )
    return found


def _replace(owner: nn.Module, key: str, axis: int, indices: Tensor) -> None:
    value: Tensor = getattr(owner, key)
    kept = value.detach().index_select(axis, indices.to(value.device))
    setattr(owner, key, nn.Parameter(kept, value.requires_grad) if isinstance(value, nn.Parameter) else kept)
