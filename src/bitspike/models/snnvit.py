"""SNN-ViT: blocks that look at the salient patches of an image only, behind a tokenizer of near and wide convolutions.

Source: "Spiking Vision Transformer with Saccadic Attention" (ICLR 2025, arXiv 2502.12677). Attention, gate and tokenizer follow the
paper's equations as far as they are known to us; depths, widths and heads are our reading, so none of its published
sizes is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from ..errors import ConfigError
from ..layers import (
    GlobalLocalConv,
    KeySalience,
    LearnedSalience,
    PreActivationBlock,
    QKTokenAttention,
    SaccadicAttention,
    SpikingMLP,
    StagedTokenizer,
    local_conv,
)
from ..neurons import DecoupledSaccadic, Neuron, Saccadic
from .former import (
    SpikingTransformer,
    Stage,
    attention_neuron,
    check_depth,
    choose_downsampling,
    former_neuron,
    stack_plan,
)
from .registry import create_model, register_model
from .resnet import NeuronFactory, _encoding

__all__ = ["GATES", "SALIENCES", "SNNVIT_SIZES", "STEMS", "snnvit", "snnvit_of_size"]

GATES: dict[str, Callable[[int], Neuron]] = {"mix": Saccadic, "decoupled": DecoupledSaccadic}
LEAKY = "lif"  # the leaky neuron that stands behind attentions elsewhere as the gate
SALIENCES: dict[str, Callable[[int, int, NeuronFactory], nn.Module]] = {"data": KeySalience, "learned": LearnedSalience}
STEMS: dict[str, Callable[[int, int], nn.Module]] = {"global-local": GlobalLocalConv, "plain": local_conv}
TOKEN = "token"  # QKFormer's attention in place of the saccadic one

# name -> options of ``snnvit``
SNNVIT_SIZES: dict[str, dict[str, Any]] = {
    "cifar": {},
    "events": {"input_shape": (2, 128, 128), "T": 16, "dim": 256, "depth": 1, "heads": 16, "patch": 16},
    "small": {"input_shape": (1, 28, 28), "dim": 64, "depth": 2, "heads": 4, "mlp_ratio": 2},
}


@register_model
def snnvit(
    num_classes: int = 10,
    T: int = 4,
    input_shape: Sequence[int] = (3, 32, 32),
    dim: int = 384,
    depth: int = 2,
    heads: int = 12,
    patch: int = 4,
    mlp_ratio: float = 4,
    gate: str = "mix",
    alpha: str = "data",
    stem: str = "global-local",
    downsampling: str = "spikes",
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = former_neuron,
    attention_neuron: NeuronFactory = attention_neuron,
) -> SpikingTransformer:
    """SNN-ViT-depth-dim; the defaults are a network for CIFAR-10.

    gate: what decides which tokens pass: "mix" (saccadic neuron), "decoupled" (its inference form, trained as such), "lif",
        or "token", which is QKFormer's attention instead; the last two use ``attention_neuron``.
    alpha: what the spikes of a token's queries are multiplied by, "data" (those of the keys) or "learned" (a factor per head).
    stem: convolutions of the tokenizer, "global-local" or "plain". Other options as in ``spikformer``.
    The stream carries currents; deployed, fixed-point numbers.
    Raises ConfigError for values that make no network.
    """
    for option, value, accepted in (
        ("gate", gate, (*GATES, LEAKY, TOKEN)),
        ("alpha", alpha, SALIENCES),
        ("stem", stem, STEMS),
    ):
        if value not in accepted:
            raise ConfigError(f"{option} is {value!r}, accepted: {', '.join(accepted)}")
    if gate == TOKEN and alpha != "data":
        raise ConfigError(f"alpha is {alpha!r}, accepted with gate {TOKEN!r}: 'data', as it has none")
    check_depth(depth)
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    pool = choose_downsampling(downsampling)

    def mixer() -> nn.Module:
        if gate == TOKEN:
            return QKTokenAttention(dim, heads, neuron, attention_neuron)
        decides = GATES[gate](T) if gate in GATES else attention_neuron()
        return SaccadicAttention(dim, heads, neuron, decides, SALIENCES[alpha](dim, heads, neuron))

    tokenizer = StagedTokenizer(input_shape[0], stack_plan(dim, patch), STEMS[stem], neuron, pool)
    blocks = [PreActivationBlock(mixer(), SpikingMLP(dim, int(mlp_ratio * dim), neuron), neuron) for _ in range(depth)]
    return SpikingTransformer(encoding, [Stage(tokenizer, blocks)], dim, num_classes)


def snnvit_of_size(name: str, **options: Any) -> nn.Module:
    """Build a network of :data:`SNNVIT_SIZES`; ``options`` replace its own. ConfigError for an unknown name."""
    if name not in SNNVIT_SIZES:
        raise ConfigError(f"size of SNN-ViT is {name!r}, accepted: {', '.join(SNNVIT_SIZES)}")
    return create_model("snnvit", **SNNVIT_SIZES[name] | options)
