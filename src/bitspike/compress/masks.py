"""What follows soft-threshold pruning: bake the sparse weights, or go on training them with their zeros fixed.

The published code ends with baking. Early pruning (prune in the first part of training, freeze the mask, train on) and
pruning at initialisation (a few hundred pruning steps, take the mask, rewind, train the survivors) are named in the
paper's abstract without a protocol at hand; both are our reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from .config import Calibration, Trait, apply, register_config
from .mixed import weight_layers
from .soft_threshold import SoftThreshold

__all__ = ["Bake", "FixedMask", "FreezeMask", "bake", "freeze_mask", "rewind"]


class FixedMask(nn.Module):
    """Weight parametrization that holds weights at zero where ``mask`` (the weight's shape, bool) is False.

    Their zeros are +0.0 and get no gradient. The mask is stored with the weights.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight, torch.zeros_like(weight))


@dataclass(frozen=True)
class Bake:
    """Replace thresholds and masks by the weights they give: ordinary parameters, exact zeros. See :func:`bake`."""


@dataclass(frozen=True)
class FreezeMask:
    """Fix every weight that is zero now at zero and train the others freely. See :func:`freeze_mask`."""


@register_config(Bake, version=1, traits=lambda config: frozenset())
def _bake(model: nn.Module, config: Bake, calibration: Calibration) -> None:
    for layer in weight_layers(model).values():
        if _attached(layer):
            weight, quantizers = _sparse_weight(layer)
            _set(layer, weight, quantizers)


@register_config(FreezeMask, version=1, traits=lambda config: frozenset({Trait.FIXES_ZEROS}))
def _freeze(model: nn.Module, config: FreezeMask, calibration: Calibration) -> None:
    for layer in weight_layers(model).values():
        weight, quantizers = _sparse_weight(layer)
        _set(layer, weight, [FixedMask(weight != 0), *quantizers])


def bake(model: nn.Module) -> nn.Module:
    """Set every weight of ``model``, in place, to S_d(theta), and drop the thresholds and fixed masks.

    Quantizers attached after a threshold stay. The logits do not change.
    """
    return apply(model, Bake())


def freeze_mask(model: nn.Module) -> nn.Module:
    """Hold the weights of ``model``, in place, that are zero now at zero; the others become plain parameters w.

    Thresholds go, w = S_d(theta) is what trains on. Every convolution and linear weight gets a :class:`FixedMask`,
    full of ones where nothing is zero, so that the structure does not depend on the weights. The logits do not change.
    """
    return apply(model, FreezeMask())


@torch.no_grad()
def rewind(model: nn.Module, initial: Mapping[str, Tensor]) -> nn.Module:
    """Set ``model``, in place, back to its ``initial`` state but for the masks of :func:`freeze_mask`.

    initial: state dict of the uncompressed model that ``model`` was made from. Survivors, biases and batch norm return
    to their first values, masked weights stay zero. Raises ConfigError where a weight has no fixed mask, and where an
    initial value is missing or of another shape; the model is then unchanged.
    """
    layers = weight_layers(model)
    free = [
        name for name, layer in layers.items() if not (_attached(layer) and isinstance(_attached(layer)[0], FixedMask))
    ]
    if free:
        raise ConfigError(f"weights of {', '.join(free)} have no fixed mask; apply FreezeMask first")
    masks = {_key(name): _attached(layer)[0].mask for name, layer in layers.items()}
    targets = {key: value for key, value in model.state_dict().items() if ".parametrizations." not in f".{key}"}
    targets |= {_key(name): _attached(layer).original for name, layer in layers.items()}
    for key, target in targets.items():
        if key not in initial or initial[key].shape != target.shape:
            found = f"shape {tuple(initial[key].shape)}" if key in initial else "nothing"
            raise ConfigError(f"the initial state has {found} for {key!r}, accepted: shape {tuple(target.shape)}")
        if initial[key].data_ptr() == target.data_ptr():
            raise ConfigError(f"the initial state shares {key!r} with the model, accepted: a copy made before training")
    for key, target in targets.items():
        target.copy_(initial[key])
        if key in masks:
            target.masked_fill_(~masks[key], 0)
    return model


def _key(layer: str) -> str:
    return f"{layer}.weight".removeprefix(".")


def _attached(layer: nn.Module) -> Any:
    """The parametrizations of the weight, in order, or nothing."""
    return layer.parametrizations["weight"] if parametrize.is_parametrized(layer, "weight") else ()  # type: ignore[index]


@torch.no_grad()
def _sparse_weight(layer: nn.Module) -> tuple[Tensor, list[nn.Module]]:
    """The real weight behind ``layer``'s thresholds and masks, and the parametrizations that follow them."""
    attached = _attached(layer)
    following: list[Any] = list(attached)
    weight: Any = attached.original if attached else layer.weight
    while following and isinstance(following[0], SoftThreshold | FixedMask):
        weight = following.pop(0)(weight)
    return weight.detach().clone(), following


@torch.no_grad()
def _set(layer: nn.Module, weight: Tensor, parametrizations: Sequence[nn.Module]) -> None:
    """Give ``layer`` the raw ``weight``, in its own parameter, under these parametrizations alone."""
    if _attached(layer):
        shared = type(layer)  # with the layers that this one was copied from; removal would take their weight away
        layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    parameter = layer.weight
    assert isinstance(parameter, nn.Parameter)
    parameter.copy_(weight)
    for parametrization in parametrizations:
        parametrize.register_parametrization(layer, "weight", parametrization)
