"""Blocks over sequences (T, N, ...): synapses that give currents, units that fire, pools and readouts."""

from . import expand_modules as expand_modules  # says what attentions and streams consist of
from .attention import MapsAttention, QKChannelAttention, QKTokenAttention, SpikingSelfAttention
from .binary_attention import ChannelMapAttention, TokenMapAttention
from .block import PostActivationBlock, PreActivationBlock, SpikingMLP
from .column import ColumnConvBN, ColumnPool
from .expand import Copies, Heads, Mask, MatrixProduct, Mean, Multiplication, Scaling, SelfAttention, SpikeSums
from .global_local import GlobalLocalConv, StagedTokenizer, local_conv
from .heads import TwoHeads
from .norm import SequenceBatchNorm
from .pool import AvgPool, MaxPool
from .readout import Readout, mean_over_time
from .reversible import OneStream, ReversibleBlock, TwoStreams
from .saccadic import KeySalience, LearnedSalience, SaccadicAttention
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
from .trace import Operation, Step, expands, is_readout, trace
from .unit import Current, SpikingUnit, gather_current
from .weighted import SpikeConv2d, SpikeLinear

__all__ = [
    "AvgPool",
    "ChannelMapAttention",
    "ChannelShortcut",
    "ColumnConvBN",
    "ColumnPool",
    "ConvBN",
    "Convolution",
    "Copies",
    "Current",
    "CurrentPool",
    "CurrentTokenizer",
    "GlobalLocalConv",
    "Heads",
    "KeySalience",
    "LearnedSalience",
    "LinearBN",
    "MapsAttention",
    "Mask",
    "MatrixProduct",
    "MaxPool",
    "Mean",
    "Multiplication",
    "OneStream",
    "Operation",
    "PostActivationBlock",
    "PreActivationBlock",
    "QKChannelAttention",
    "QKTokenAttention",
    "Readout",
    "ReversibleBlock",
    "SaccadicAttention",
    "Scaling",
    "SelfAttention",
    "SequenceBatchNorm",
    "ShortcutTokenizer",
    "SpikeConv2d",
    "SpikeLinear",
    "SpikePool",
    "SpikeSums",
    "SpikeTokenizer",
    "SpikingMLP",
    "SpikingSelfAttention",
    "SpikingUnit",
    "StagedTokenizer",
    "Step",
    "Synapse",
    "TokenMapAttention",
    "TwoHeads",
    "TwoStreams",
    "expands",
    "gather_current",
    "is_readout",
    "local_conv",
    "mean_over_time",
    "trace",
]
