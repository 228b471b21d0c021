"""Structured pruning: the channels with the lowest scores are removed, physically."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..layers import Readout
from .channels import ChannelGroup, KeepChannels, channel_groups, remove_in_place
from .config import Calibration, Trait, register_config
from .published import published_ratios
from .scores import channel_means, firing_rate, magnitude_scores, membrane_magnitude, significant_values

__all__ = ["Prune"]


@dataclass(frozen=True)
class Prune:
    """Remove the share ``ratio`` of the channels with the lowest scores: int(n * (1 - ratio)) of n stay, at least one.

    ratio: one for every channel group, or group name -> ratio, the others staying whole, or the name of a published
        table of these, such as "resnet20-A" (see ``published_ratios``).
    score: "svs" (singular values of spike maps, the method of QP-SNN), "sca" (membranes, its baseline), "magnitude" (of
        the weights) or "random". The first two need calibration: batches of training samples.
    keep_last: one ``ratio`` for all leaves out what the classifier reads, as published.
    tolerance: absolute one of "svs"; None is the relative rule. seed: of "random".

    Equal scores are ranked by the mean firing rate ("svs", "sca"), then by position, our reading. A group that several
    units write keeps one set of channels, ranked by the sum of the scores of these units, our reading.
    Recorded as the :class:`KeepChannels` of what stayed, so that the shape can be given to a fresh model.
    """

    ratio: float | dict[str, float] | str = 0.5
    score: str = "svs"
    keep_last: bool = True
    tolerance: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ConfigError(f"Prune score is {self.score!r}, accepted: {', '.join(SCORES)}")
        named = published_ratios(self.ratio) if isinstance(self.ratio, str) else self.ratio
        for ratio in named.values() if isinstance(named, dict) else [named]:
            if not 0 <= ratio < 1:
                raise ConfigError(f"Prune ratio is {ratio!r}, accepted: 0 up to, not including, 1")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ConfigError(f"Prune tolerance is {self.tolerance!r}, accepted: 0 or more, or null")


def _svs(model: nn.Module, config: Prune, calibration: Calibration) -> dict[str, Tensor]:
    measure = partial(significant_values, tolerance=config.tolerance)
    return channel_means(model, calibration, [measure, firing_rate])


def _sca(model: nn.Module, config: Prune, calibration: Calibration) -> dict[str, Tensor]:
    return channel_means(model, calibration, [membrane_magnitude, firing_rate])


def _magnitude(model: nn.Module, config: Prune, calibration: Calibration) -> dict[str, Tensor]:
    return {name: scores[None] for name, scores in magnitude_scores(model).items()}


def _random(model: nn.Module, config: Prune, calibration: Calibration) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(config.seed)
    return {
        name: torch.rand(1, group.size, generator=generator)
        for group in channel_groups(model)
        for name in group.producers
    }


# unit name -> (keys, C): what channels are ranked by, the first key before the next
SCORES: dict[str, Callable[[nn.Module, Prune, Calibration], dict[str, Tensor]]] = {
    "svs": _svs,
    "sca": _sca,
    "magnitude": _magnitude,
    "random": _random,
}


@register_config(Prune, version=1, traits=lambda config: frozenset({Trait.REMOVES_CHANNELS}))
def _apply(model: nn.Module, config: Prune, calibration: Calibration) -> KeepChannels:
    groups = channel_groups(model)
    ratios = _ratios(model, config, groups)
    keys = SCORES[config.score](model, config, calibration)
    keep = {}
    for group in groups:
        count = max(1, int(group.size * (1 - ratios.get(group.name, 0))))
        if count < group.size:
            total = sum((keys[name] for name in group.producers), torch.zeros(()))
            keep[group.name] = _best(total, count)
    remove_in_place(model, keep)
    return KeepChannels({name: tuple(kept) for name, kept in keep.items()})


def _ratios(model: nn.Module, config: Prune, groups: list[ChannelGroup]) -> dict[str, float]:
    names = [group.name for group in groups]
    ratio = published_ratios(config.ratio) if isinstance(config.ratio, str) else config.ratio
    if isinstance(ratio, dict):
        unknown = [name for name in ratio if name not in names]
        if unknown:
            raise ConfigError(f"Prune ratio names {', '.join(unknown)}, accepted: {', '.join(names)}")
        return ratio
    last = {g.name for g in groups if any(isinstance(model.get_submodule(c), Readout) for c in g.consumers)}
    return {name: ratio for name in names if not (config.keep_last and name in last)}


def _best(keys: Tensor, count: int) -> list[int]:
    """Indices, ascending, of the ``count`` channels that rank highest; keys (K, C)."""
    rank = keys.tolist()
    order = sorted(range(keys.shape[1]), key=lambda channel: [-key[channel] for key in rank])
    return sorted(order[:count])
