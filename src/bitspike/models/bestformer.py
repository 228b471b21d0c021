"""BESTformer: a spiking transformer of 1-bit weights and 1-bit attention maps, on two reversible streams, with two heads.

Source: "Binary Event-Driven Spiking Transformer" (IJCAI 2025, arXiv 2501.05904). The model is built in full precision;
``compress.StandardizedBinary`` makes its weights binary. The published networks are in
:data:`~bitspike.models.former_configs.PUBLISHED_FORMERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import (
    ChannelMapAttention,
    CurrentTokenizer,
    OneStream,
    PreActivationBlock,
    ReversibleBlock,
    SpikePool,
    SpikingMLP,
    TokenMapAttention,
    TwoHeads,
    TwoStreams,
)
from ..layers.tokenizer import NeuronFactory
from ..neurons import ReachingLIF
from ..ops import Sigmoid
from .former import check_depth, former_neuron, stack_plan
from .registry import register_model
from .resnet import _encoding

__all__ = ["MAPS", "STREAMS", "BESTformer", "bestformer", "map_neuron", "output_neuron"]

MAPS = {"tokens": TokenMapAttention, "channels": ChannelMapAttention}

Parts = Sequence[tuple[nn.Module, nn.Module]]  # token mixer and MLP of every block


def _two_streams(parts: Parts, neuron: NeuronFactory, activations: str) -> nn.Module:
    return TwoStreams([ReversibleBlock(mixer, mlp, neuron) for mixer, mlp in parts], activations)


def _one_stream(parts: Parts, neuron: NeuronFactory, activations: str) -> nn.Module:
    if activations != "stored":
        raise ConfigError(f"activations is {activations!r} on one stream, accepted: stored")
    return OneStream(*(PreActivationBlock(mixer, mlp, neuron) for mixer, mlp in parts))


STREAMS: dict[str, Callable[[Parts, NeuronFactory, str], nn.Module]] = {"two": _two_streams, "one": _one_stream}


def map_neuron() -> ReachingLIF:
    """Makes the attention map binary: fires from a count of 2 on, and keeps what exceeds it (soft reset)."""
    return ReachingLIF(reset="soft", decay_input=True, detach_reset=True, surrogate=Sigmoid())


def output_neuron() -> ReachingLIF:
    """The neuron directly behind an attention: half the threshold, hard reset."""
    return ReachingLIF(threshold=0.5, decay_input=True, detach_reset=True, surrogate=Sigmoid())


class BESTformer(nn.Module):
    """Samples (N, C, H, W) or frames (T, N, C, H, W), u8 values, to logits (T, N, classes): the mean of the two heads."""

    def __init__(self, encoding: DirectEncoding, tokenizer: nn.Module, body: nn.Module, readout: TwoHeads) -> None:
        super().__init__()
        self.encoding = encoding
        self.tokenizer = tokenizer
        self.body = body
        self.readout = readout

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.body(self.tokenizer(self.encoding(samples))))
        return logits


@register_model
def bestformer(
    num_classes: int = 10,
    T: int = 4,
    input_shape: Sequence[int] = (3, 32, 32),
    dim: int = 384,
    depth: int = 4,
    heads: int = 8,
    patch: int = 4,
    mlp_ratio: float = 4,
    attention_map: str = "tokens",
    streams: str = "two",
    activations: str = "stored",
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: NeuronFactory = former_neuron,
    attention_neuron: NeuronFactory = output_neuron,
    map_neuron: Callable[[], nn.Module] = map_neuron,
) -> BESTformer:
    """BESTformer-depth-dim; the defaults are the network for CIFAR-10. Options as in ``spikformer``, and:

    attention_map: binary between "tokens" (Q K^T) or between "channels" (K^T V). map_neuron: what makes it binary;
        ``nn.Identity`` leaves it counts.
    streams: "two" reversible ones, or "one" (Spikingformer's blocks), which both heads read.
    activations: of two streams, "stored" or "rebuilt" in training, see ``layers.TwoStreams``.
    Deployed, the streams carry fixed-point numbers; a map of counts cannot be lowered.
    Raises ConfigError for values that make no network.
    """
    check_depth(depth)
    for option, value, accepted in (("attention_map", attention_map, MAPS), ("streams", streams, STREAMS)):
        if value not in accepted:
            raise ConfigError(f"{option} is {value!r}, accepted: {', '.join(accepted)}")
    encoding = _encoding(T, input_shape, zero_point, input_scale)
    tokenizer = CurrentTokenizer(input_shape[0], stack_plan(dim, patch), neuron, SpikePool)
    parts = [
        (
            MAPS[attention_map](dim, heads, T, neuron, attention_neuron, map_neuron),
            SpikingMLP(dim, int(mlp_ratio * dim), neuron, bias=False),
        )
        for _ in range(depth)
    ]
    return BESTformer(encoding, tokenizer, STREAMS[streams](parts, neuron, activations), TwoHeads(dim, num_classes))
