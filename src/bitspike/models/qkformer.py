"""QKFormer: stages of ever fewer tokens; the first mix them by masks from queries, the last by self-attention.

Source: "QKFormer: Hierarchical Spiking Transformer using Q-K Attention" (NeurIPS 2024, arXiv 2403.16552). In its released
code the neuron behind self-attention reads the batch as time, so that logits depend on a sample's neighbours; here they
do not. The published networks are in :data:`~bitspike.models.former_configs.PUBLISHED_FORMERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ..errors import ConfigError
from ..layers import (
    Convolution,
    PostActivationBlock,
    QKChannelAttention,
    QKTokenAttention,
    ShortcutTokenizer,
    SpikingMLP,
    SpikingSelfAttention,
)
from .former import SpikingTransformer, Stage, attention_neuron, check_depth, check_dim, former_neuron
from .registry import register_model
from .resnet import NeuronFactory, _encoding

__all__ = ["EMBEDDINGS", "MIXERS", "qkformer"]

MIXERS: dict[str, Callable[[int, int, NeuronFactory, NeuronFactory], nn.Module]] = {
    "token": QKTokenAttention,
    "channel": QKChannelAttention,
    "self": SpikingSelfAttention,
}

Plan = tuple[Convolution, ...]
Embedding = tuple[Plan, Plan]  # stem and stack of a ShortcutTokenizer


def _halved_late(dim: int) -> Embedding:
    return (), (Convolution(dim), Convolution(dim, pooled=True))


def _halved_early(dim: int) -> Embedding:
    return (), (Convolution(dim, pooled=True), Convolution(dim))


def _cifar(dim: int) -> list[Embedding]:
    """32x32 tokens, 16x16, 8x8 of a CIFAR image; widths dim / 4, dim / 2, dim."""
    first = (Convolution(dim // 8),), (Convolution(dim // 4),)
    return [first, _halved_late(dim // 2), _halved_late(dim)]


def _imagenet(dim: int) -> list[Embedding]:
    """56x56 tokens, 28x28, 14x14 of a 224x224 image; widths dim / 4, dim / 2, dim."""
    first = (Convolution(dim // 8, pooled=True),), (Convolution(dim // 4, pooled=True), Convolution(dim // 4))
    return [first, _halved_early(dim // 2), _halved_early(dim)]


def _events(dim: int) -> list[Embedding]:
    """16x16 tokens, 8x8 of 128x128 event frames; widths dim / 2, dim."""
    stem = Convolution(dim // 16), Convolution(dim // 8, pooled=True)
    first = stem, (Convolution(dim // 4, pooled=True), Convolution(dim // 2, pooled=True))
    return [first, _halved_late(dim)]


EMBEDDINGS: dict[str, Callable[[int], list[Embedding]]] = {"cifar": _cifar, "imagenet": _imagenet, "events": _events}


@register_model
def qkformer(
    num_classes: int = 10,
    T: int = 4,
    input_shape: Sequence[int] = (3, 32, 32),
    dim: int = 384,
    depths: Sequence[int] = (1, 1, 2),
    heads: int = 8,
    mixers: Sequence[str] = ("token", "token", "self"),
    embedding: str = "cifar",
    mlp_ratio: float = 4,
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = former_neuron,
    attention_neuron: NeuronFactory = attention_neuron,
) -> SpikingTransformer:
    """The defaults are the network for CIFAR-10.

    dim: channels of the last stage, each earlier one has half; depths, mixers: blocks of each stage and how they mix
        tokens, "token" or "channel" (Q-K attention) or "self". heads: of every stage.
    embedding: how the stages come by their tokens: "cifar" (three stages that begin with all pixels), "imagenet" (three,
        from a quarter of the pixels along each axis) or "events" (two, from an eighth).
    neuron, attention_neuron: factories of the neurons everywhere, and directly behind the attention.
    Convolutions read counts, up to two more with each block of a stage.
    Raises ConfigError for values that make no network.
    """
    if embedding not in EMBEDDINGS:
        raise ConfigError(f"embedding is {embedding!r}, accepted: {', '.join(EMBEDDINGS)}")
    check_dim(dim, 16 if embedding == "events" else 8)
    plans = EMBEDDINGS[embedding](dim)
    unknown = [name for name in mixers if name not in MIXERS]
    if unknown or not len(mixers) == len(depths) == len(plans):
        raise ConfigError(
            f"mixers {tuple(mixers)}, depths {tuple(depths)}, accepted: {len(plans)} of {', '.join(MIXERS)}, and as "
            f"many numbers of blocks"
        )
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    stages: list[Stage] = []
    channels = input_shape[0]
    for (stem, plan), depth, name in zip(plans, depths, mixers, strict=True):
        check_depth(depth)
        tokenizer = ShortcutTokenizer(channels, stem, plan, neuron)
        channels = plan[-1].channels
        blocks = [
            PostActivationBlock(
                MIXERS[name](channels, heads, neuron, attention_neuron),
                SpikingMLP(channels, int(mlp_ratio * channels), neuron),
                neuron,
            )
            for _ in range(depth)
        ]
        stages.append(Stage(tokenizer, blocks))
    return SpikingTransformer(encoding, stages, dim, num_classes)
