"""Spikingformer: blocks add currents to a stream of currents, so that every convolution but the first reads spikes.

Source: "Spikingformer: Spike-driven Residual Learning for Transformer-based Spiking Neural Network" (arXiv 2304.11954);
with ``downsampling="currents"`` that of CML (arXiv 2305.05954). The published networks are in
:data:`~bitspike.models.former_configs.PUBLISHED_FORMERS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layers import CurrentTokenizer, PreActivationBlock, SpikingMLP, SpikingSelfAttention
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

__all__ = ["spikingformer"]


@register_model
def spikingformer(
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
    """Spikingformer-depth-dim; the defaults are the network for CIFAR-10. Options as in ``spikformer``.

    The stream carries currents; deployed, fixed-point numbers.
    Raises ConfigError for values that make no network.
    """
    check_depth(depth)
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    pool = choose_downsampling(downsampling)
    tokenizer = CurrentTokenizer(input_shape[0], stack_plan(dim, patch), neuron, pool)
    blocks = [
        PreActivationBlock(
            SpikingSelfAttention(dim, heads, neuron, attention_neuron),
            SpikingMLP(dim, int(mlp_ratio * dim), neuron),
            neuron,
        )
        for _ in range(depth)
    ]
    return SpikingTransformer(encoding, [Stage(tokenizer, blocks)], dim, num_classes)
