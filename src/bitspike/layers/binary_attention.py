"""Self-attention whose map is binary: neurons turn the counts of shared spikes into bits before they meet the third factor.

Two orders, which differ once the map is thresholded. Source: BESTformer (IJCAI 2025, arXiv 2501.05904), whose released code
takes the map between tokens for CIFAR and the map between channels for ImageNet.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import BitspikeError, ConfigError
from .attention import SCALE, check_heads, split_heads
from .synapse import ConvBN
from .tokenizer import NeuronFactory
from .unit import SpikingUnit

__all__ = ["ChannelMapAttention", "TokenMapAttention"]


class _BinaryMapAttention(nn.Module):
    """BN(conv(LIF(counts · λ / 8))), Q, K, V = LIF(BN(conv(x))), all convolutions 1x1; subclasses count.

    neuron: of Q, K and V; map_neuron: makes the map binary, ``nn.Identity`` leaves it counts; attention_neuron: behind the
    products. λ (time_steps, 1, heads, 1, 1) is learned from 1; the parameter's magnitude is taken, so that it stays
    positive and folds into a threshold. So it moves with its sign through 0, where it would otherwise be stuck.
    Raises ConfigError for heads that do not divide the channels, BitspikeError for another number of steps.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        time_steps: int,
        neuron: NeuronFactory,
        attention_neuron: NeuronFactory,
        map_neuron: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        if time_steps < 1:
            raise ConfigError(f"time_steps is {time_steps}, accepted: 1 or more")
        self.heads = heads
        self.query = SpikingUnit(neuron(), ConvBN(dim, dim, 1))
        self.key = SpikingUnit(neuron(), ConvBN(dim, dim, 1))
        self.value = SpikingUnit(neuron(), ConvBN(dim, dim, 1))
        self.map_neuron = map_neuron()
        self.signed_gain = nn.Parameter(torch.ones(time_steps, 1, heads, 1, 1))
        self.neuron = attention_neuron()
        self.project = ConvBN(dim, dim, 1)

    @property
    def gain(self) -> Tensor:
        """λ >= 0, (T, 1, heads, 1, 1)."""
        return self.signed_gain.abs()

    def counts(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Whole numbers (T, N, heads, d, tokens) from spikes of that shape."""
        raise TypeError(f"{type(self).__name__} defines no counts")

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != len(self.signed_gain):
            raise BitspikeError(f"input has {len(x)} steps, accepted: {len(self.signed_gain)}, which have a gain each")
        query, key, value = (split_heads(unit(x), self.heads) for unit in (self.query, self.key, self.value))
        scaled = self.counts(query, key, value) * (self.gain * SCALE)
        current: Tensor = self.project(self.neuron(scaled.flatten(2, 3).unflatten(-1, x.shape[-2:])))
        return current


class TokenMapAttention(_BinaryMapAttention):
    """A V with A = LIF(Q K^T): which token attends to which, tokens x tokens bits a head. Quadratic in the tokens."""

    map_kind = "pairs"
    map_sources = ("map_neuron",)

    def counts(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attends = self.map_neuron(torch.einsum("...dl,...dm->...lm", query, key))
        return torch.einsum("...lm,...dm->...dl", attends, value)

    def attention_map(self, *outputs: Tensor) -> Tensor:
        """A (T, N, heads, queries, keys)."""
        return outputs[0]


class ChannelMapAttention(_BinaryMapAttention):
    """Q M with M = LIF(K^T V): which channels go together, d x d bits a head. Linear in the tokens."""

    def counts(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        together = self.map_neuron(torch.einsum("...dl,...el->...de", key, value))
        return torch.einsum("...de,...dl->...el", together, query)
