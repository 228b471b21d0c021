"""Spikformer: self-attention among spikes; blocks add their spikes to the stream, which holds counts.

Source: "When Spiking Neural Network Meets Transformer" (ICLR 2023, arXiv 2209.15425). The published networks are in
:data:`~bitspike.models.former_configs.PUBLISHED_FORMERS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layers import PostActivationBlock, SpikeTokenizer, SpikingMLP, SpikingSelfAttention
from .former import (
    SpikingTransformer,
    Stage,
    attention_neuron,
    check_depth,
    choose_downsampling,
    former_neuron,
    stack_plan,
)
from .registry import register_model
from .resnet import NeuronFactory, _encoding

__all__ = ["spikformer"]


@register_model
def spikformer(
    num_classes: int = 10,
    T: int = 4,
    input_shape: Sequence[int] = (3, 32, 32),
    dim: int = 384,
    depth: int = 4,
    heads: int = 12,
    patch: int = 4,
    mlp_ratio: float = 4,
    downsampling: str = "spikes",
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = former_neuron,
    attention_neuron: NeuronFactory = attention_neuron,
) -> SpikingTransformer:
    """Spikformer-depth-dim; the defaults are the network for CIFAR-10.

    patch: how much smaller the tokenizer makes the image along an axis, 1 to 16, a power of two.
    downsampling: it pools "spikes" (as published) or "currents" (CML).
    neuron, attention_neuron: factories of the neurons everywhere, and directly behind the attention.
    Convolutions read counts, up to two more with each block.
    Raises ConfigError for values that make no network.
    """
    check_depth(depth)
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    pool = choose_downsampling(downsampling)
    tokenizer = SpikeTokenizer(input_shape[0], stack_plan(dim, patch), neuron, pool)
    blocks = [
        PostActivationBlock(
            SpikingSelfAttention(dim, heads, neuron, attention_neuron, bias=True),
            SpikingMLP(dim, int(mlp_ratio * dim), neuron),
            neuron,
        )
        for _ in range(depth)
    ]
    return SpikingTransformer(encoding, [Stage(tokenizer, blocks)], dim, num_classes)
