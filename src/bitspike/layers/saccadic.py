"""Saccadic spike self-attention (SSSA): a patch's values pass where its queries are salient enough, else they are zero.

Source: "Spiking Vision Transformer with Saccadic Attention" (SNN-ViT, ICLR 2025, arXiv 2502.12677). With Q and K the spikes of
a head, Q'[n] and K'[n] their sums over its D channels, the relevance of patch j to patch i is their cross-entropy as firing
rates, simplified to Q'[i] K'[j], and the salience of patch i is the sum of its row::

    SSSA       p = (Q' K'^T) 1      all N x N pairs       SSSA-V2    p = a Q',  a = sum of K'      linear in N

equal because whole numbers may be added in any order. Here p is divided by N, so that a is the number of key spikes of an
average patch: gates that start at threshold 1 then let some patches pass and others not, whatever N is (our reading; the
paper's normalisation is not known to us).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..neurons import Neuron
from .attention import check_heads, split_heads
from .synapse import ConvBN
from .tokenizer import NeuronFactory
from .unit import SpikingUnit

__all__ = [
    "KeySalience",
    "LearnedSalience",
    "SaccadicAttention",
    "linear_salience",
    "pairwise_salience",
    "relevance",
]

SalienceRule = Callable[[Tensor, Tensor], Tensor]


def relevance(query: Tensor, key: Tensor) -> Tensor:
    """Counts Q'[i] K'[j], (..., queries, keys), of ``query`` and ``key`` (..., d, tokens); rank 1. Eq. 7, up to 1 / d^2."""
    return query.sum(-2)[..., :, None] * key.sum(-2)[..., None, :]


def pairwise_salience(query: Tensor, key: Tensor) -> Tensor:
    """SSSA: row sums of the relevance, counts (..., 1, tokens); memory and time grow with the pairs of tokens."""
    return relevance(query, key).sum(-1)[..., None, :]


def linear_salience(query: Tensor, key: Tensor) -> Tensor:
    """SSSA-V2: the same counts (..., 1, tokens) as all key spikes times the query spikes of a token."""
    return key.sum((-2, -1), keepdim=True) * query.sum(-2, keepdim=True)


class KeySalience(nn.Module):
    """p = query spikes of a token times the mean key spikes of a token, K = LIF(BN(conv1x1(x))), for each step and head.

    x (T, N, C, H, W) and query (T, N, heads, C / heads, tokens) to (T, N, heads, 1, tokens). rule: how the counts come
    about, :func:`linear_salience` or :func:`pairwise_salience`.
    """

    def __init__(self, dim: int, heads: int, neuron: NeuronFactory, rule: SalienceRule = linear_salience) -> None:
        super().__init__()
        self.heads = heads
        self.key = SpikingUnit(neuron(), ConvBN(dim, dim, 1))
        self.rule = rule

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        key = split_heads(self.key(x), self.heads)
        return self.rule(query, key) / query.shape[-1]


class LearnedSalience(nn.Module):
    """p = query spikes of a token times a learned factor above 0 for each head, 1 at first; there are no keys.

    The other reading of the paper's a. Shapes as in :class:`KeySalience`; x is not read.
    """

    def __init__(self, dim: int, heads: int, neuron: NeuronFactory) -> None:
        super().__init__()
        self.log_factor = nn.Parameter(torch.zeros(heads))

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        return self.log_factor.exp()[:, None, None] * query.sum(-2, keepdim=True)


class SaccadicAttention(nn.Module):
    """BN(conv(S * V)), S = gate(p) with one bit per step, head and token; Q, V = LIF(BN(conv(x))), all convolutions 1x1.

    neuron: of Q and V; gate: the neuron that turns saliences into S; salience: module (x, Q) -> p, see
    :class:`KeySalience`. Spikes (T, N, C, H, W) to currents of the same shape; linear in the tokens, and all products
    but those of p are with spikes. Raises ConfigError for heads that do not divide the channels.
    """

    map_kind = "tokens"
    map_sources = ("gate",)

    def __init__(self, dim: int, heads: int, neuron: NeuronFactory, gate: Neuron, salience: nn.Module) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.query = SpikingUnit(neuron(), ConvBN(dim, dim, 1))
        self.value = SpikingUnit(neuron(), ConvBN(dim, dim, 1))
        self.salience = salience
        self.gate = gate
        self.project = ConvBN(dim, dim, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        query, value = (split_heads(unit(x), self.heads) for unit in (self.query, self.value))
        kept = self.gate(self.salience(x, query)) * value
        current: Tensor = self.project(kept.flatten(2, 3).unflatten(-1, x.shape[-2:]))
        return current

    def attention_map(self, *outputs: Tensor) -> Tensor:
        """S (T, N, heads, tokens)."""
        return outputs[0].squeeze(3)
