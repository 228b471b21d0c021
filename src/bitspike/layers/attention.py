"""Mixing tokens by spikes: self-attention without softmax, and masks computed from queries.

A mixer takes spikes (T, N, C, H, W), or counts, to currents of the same shape; its tokens are the H·W pixels, its
channels stand in ``heads`` equal blocks. Sources: Spikformer (arXiv 2209.15425) and QKFormer (arXiv 2403.16552).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .synapse import ConvBN
from .tokenizer import NeuronFactory
from .unit import SpikingUnit

__all__ = [
    "MapsAttention",
    "QKChannelAttention",
    "QKTokenAttention",
    "SpikingSelfAttention",
    "spiking_attention",
    "split_heads",
]

SCALE = 0.125  # whatever the size of the heads


@runtime_checkable
class MapsAttention(Protocol):
    """A mixer whose attention can be looked at, from outside and without a trace in its forward pass.

    map_kind: "pairs", "tokens" or "channels". map_sources: the submodules whose outputs of a forward pass
    ``attention_map`` turns into the map (T, N, heads, queries, keys), (T, N, heads, tokens) or (T, N, heads, channels).
    ``bitspike.measure.observe_attention`` collects the maps of a model.
    """

    map_kind: str
    map_sources: tuple[str, ...]

    def attention_map(self, *outputs: Tensor) -> Tensor: ...


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(T, N, C, H, W) -> (T, N, heads, C / heads, tokens)."""
    return x.flatten(3).unflatten(2, (heads, -1))


def spiking_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Q (K^T V) for each head, all (T, N, heads, d, tokens).

    Sums of products of spikes: whole numbers, so the order of the products does not matter, and this one needs memory
    and time proportional to the number of tokens.
    """
    context = torch.einsum("...dl,...el->...de", key, value)
    return torch.einsum("...de,...dl->...el", context, query)


class SpikingSelfAttention(nn.Module):
    """Spiking self-attention: BN(conv(LIF(Q (K^T V) / 8))), Q, K, V = LIF(BN(conv(x))), all convolutions 1x1.

    neuron: of Q, K and V; attention_neuron: behind the products. bias: of the three convolutions (Spikformer's have one,
    Spikingformer's none). Raises ConfigError for heads that do not divide the channels.
    """

    map_kind = "pairs"
    map_sources = ("query", "key")

    def __init__(
        self, dim: int, heads: int, neuron: NeuronFactory, attention_neuron: NeuronFactory, *, bias: bool = False
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.query = SpikingUnit(neuron(), ConvBN(dim, dim, 1, bias=bias))
        self.key = SpikingUnit(neuron(), ConvBN(dim, dim, 1, bias=bias))
        self.value = SpikingUnit(neuron(), ConvBN(dim, dim, 1, bias=bias))
        self.neuron = attention_neuron()
        self.project = ConvBN(dim, dim, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(unit(x), self.heads) for unit in (self.query, self.key, self.value))
        counts = spiking_attention(query, key, value).flatten(2, 3).unflatten(-1, x.shape[-2:])
        current: Tensor = self.project(self.neuron(counts * SCALE))
        return current

    def attention_map(self, *outputs: Tensor) -> Tensor:
        """Counts Q^T K of shared spikes (T, N, heads, queries, keys), which the forward pass never needs."""
        query, key = (split_heads(spikes, self.heads) for spikes in outputs)
        return torch.einsum("...dl,...dm->...lm", query, key)


class _QKAttention(nn.Module):
    """BN(conv(A * K)), A = LIF(sum of Q over ``axis`` of (T, N, heads, C / heads, tokens)); no scale."""

    axis: int
    map_kind: str
    map_sources = ("neuron",)

    def __init__(self, dim: int, heads: int, neuron: NeuronFactory, attention_neuron: NeuronFactory) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.query = SpikingUnit(neuron(), ConvBN(dim, dim, 1))
        self.key = SpikingUnit(neuron(), ConvBN(dim, dim, 1))
        self.neuron = attention_neuron()
        self.project = ConvBN(dim, dim, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        query, key = (split_heads(unit(x), self.heads) for unit in (self.query, self.key))
        mask = self.neuron(query.sum(self.axis, keepdim=True))
        current: Tensor = self.project((mask * key).flatten(2, 3).unflatten(-1, x.shape[-2:]))
        return current

    def attention_map(self, *outputs: Tensor) -> Tensor:
        """A without its axis of size one: (T, N, heads, tokens) or (T, N, heads, channels)."""
        return outputs[0].squeeze(self.axis)


class QKTokenAttention(_QKAttention):
    """Q-K token attention: BN(conv(A * K)), where A = LIF(sum of Q over a head's channels) lets a token pass or not.

    A is (T, N, heads, 1, tokens); Q and K as in :class:`SpikingSelfAttention`. Linear in the tokens, no scale.
    """

    axis = 3
    map_kind = "tokens"


class QKChannelAttention(_QKAttention):
    """Q-K channel attention: BN(conv(A * K)), where A = LIF(sum of Q over the tokens) lets a channel pass or not.

    A is (T, N, heads, C / heads, 1): each channel has its own sum, so the number of heads makes no difference.
    """

    axis = 4
    map_kind = "channels"


def check_heads(dim: int, heads: int) -> None:
    """ConfigError unless ``heads`` divides ``dim``."""
    if heads < 1 or dim < 1 or dim % heads:
        raise ConfigError(f"heads is {heads}, accepted: divisors of the {dim} channels")
