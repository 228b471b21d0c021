"""The unit every deployable network is made of: currents from one or two sources into one layer of neurons."""

from __future__ import annotations

from functools import reduce
from operator import add

from torch import Tensor, nn

from ..errors import BitspikeError
from ..neurons import Neuron
from ..ops import made_again, rebuild_sum, rebuildable
from .shortcut import ChannelShortcut
from .synapse import Synapse

__all__ = ["Current", "SpikingUnit", "gather_current"]

Current = Synapse | nn.Identity | ChannelShortcut


class SpikingUnit(nn.Module):
    """spikes = neuron(sum_i current_i(input_i)).

    ``currents`` are synapses, or shortcuts, whose spikes are added to the current as they are (``nn.Identity``) or
    channel by channel (:class:`ChannelShortcut`).
    One input per current, each (T, N, C, H, W).
    """

    def __init__(self, neuron: Neuron, *currents: Current) -> None:
        super().__init__()
        self.currents = nn.ModuleList(currents)
        self.neuron = neuron

    def forward(self, *inputs: Tensor) -> Tensor:
        current = gather_current(self, inputs)
        with made_again(current):
            spikes: Tensor = self.neuron(current)
        return spikes


def gather_current(unit: SpikingUnit, inputs: tuple[Tensor, ...]) -> Tensor:
    """Sum of the unit's currents (T, N, C, H, W)."""
    if len(inputs) != len(unit.currents):
        raise BitspikeError(f"the unit has {len(unit.currents)} currents but was given {len(inputs)} inputs")
    currents = [current(x) for current, x in zip(unit.currents, inputs, strict=True)]
    return currents[0] if len(currents) == 1 else rebuildable(reduce(add, currents), rebuild_sum(currents))
