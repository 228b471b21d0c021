"""Blocks over sequences (T, N, ...): synapses that give currents, units that fire, pools and readouts."""

from .attention import QKChannelAttention, QKTokenAttention, SpikingSelfAttention
from .block import PostActivationBlock, PreActivationBlock, SpikingMLP
from .norm import SequenceBatchNorm
from .pool import AvgPool, MaxPool
from .readout import Readout, mean_over_time
from .shortcut import ChannelShortcut
from .synapse import ConvBN, LinearBN, Synapse
from .tokenizer import (
    Convolution,
    CurrentPool,
    CurrentTokenizer,
    ShortcutTokenizer,
    SpikePool,
    SpikeTokenizer,
)
from .trace import Step, trace
from .unit import Current, SpikingUnit, gather_current
from .weighted import SpikeConv2d, SpikeLinear

__all__ = [
    "AvgPool",
    "ChannelShortcut",
    "ConvBN",
    "Convolution",
    "Current",
    "CurrentPool",
    "CurrentTokenizer",
    "LinearBN",
    "MaxPool",
    "PostActivationBlock",
    "PreActivationBlock",
    "QKChannelAttention",
    "QKTokenAttention",
    "Readout",
    "SequenceBatchNorm",
    "ShortcutTokenizer",
    "SpikeConv2d",
    "SpikeLinear",
    "SpikePool",
    "SpikeTokenizer",
    "SpikingMLP",
    "SpikingSelfAttention",
    "SpikingUnit",
    "Step",
    "Synapse",
    "gather_current",
    "mean_over_time",
    "trace",
]
