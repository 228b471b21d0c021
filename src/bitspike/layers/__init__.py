"""Blocks over sequences (T, N, ...): synapses that give currents, units that fire, pools and readouts."""

from .norm import SequenceBatchNorm
from .pool import AvgPool, MaxPool
from .readout import Readout, mean_over_time
from .shortcut import ChannelShortcut
from .synapse import ConvBN, LinearBN, Synapse
from .trace import Step, trace
from .unit import Current, SpikingUnit, gather_current

__all__ = [
    "AvgPool",
    "ChannelShortcut",
    "ConvBN",
    "Current",
    "LinearBN",
    "MaxPool",
    "Readout",
    "SequenceBatchNorm",
    "SpikingUnit",
    "Step",
    "Synapse",
    "gather_current",
    "mean_over_time",
    "trace",
]
