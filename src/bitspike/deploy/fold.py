"""Folding batch norm and scales into per-channel integers: the arithmetic shared by exact training and export.

Channel c of a unit counts its membrane in units of delta[c] (a positive real): real membrane = delta * integer. For
source i with integer sums a_i, real current g_i a_i + h_i::

    multiplier_i = round(g_i / delta)    bias = round(sum_i h_i / delta)    threshold = round(V_th / delta)

With delta = |g_0| / 2^f the main source is multiplied by ±2^f exactly and no precision of the batch norm is lost;
f fractional bits refine bias and threshold. A channel with next to no gain gets a coarser delta, so that its
threshold stays bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import LoweringError
from ..layers import Synapse
from ..layers.norm import batch_norm_affine
from ..neurons import LIF, Neuron
from ..ops import quantizer_input, round_ste, weight_quantizer

__all__ = ["Folded", "NeuronForm", "Source", "fold", "neuron_form", "source_form"]

SPIKE_THRESHOLD_LIMIT = 2.0**13  # keeps channels without gain within 16 bits
PIXEL_THRESHOLD_LIMIT = 2.0**21  # u8 inputs need fine units; fp32 stays exact below 2^24
THRESHOLD_FLOOR = 2.0  # keeps channels of huge gain (no variance in training) comparing offset and threshold
FRACTION_BITS = 4
CURRENT_LIMIT = 2**14


@dataclass(frozen=True)
class Source:
    """One current of a unit. ``weight`` None: the spikes themselves. ``gain``, ``offset``: (C,) or scalars, real."""

    layer: nn.Conv2d | nn.Linear | None
    weight: Tensor | None
    bits: int
    gain: Tensor
    offset: Tensor
    reach: float  # largest |integer sum| that any weights of this precision could give


@dataclass(frozen=True)
class NeuronForm:
    """The integer-relevant constants of a neuron; ``log2_step`` None: the membrane is stored in 16 bits, saturating."""

    threshold: float
    leak_shift: int
    soft_reset: bool
    membrane_bits: int
    log2_step: int | None
    input_gain: float


@dataclass(frozen=True)
class Folded:
    """Integer-valued float tensors: multiplier (sources, C), bias, threshold, membrane_shift (C,); delta (C,) real."""

    multiplier: Tensor
    bias: Tensor
    threshold: Tensor
    membrane_shift: Tensor
    delta: Tensor


def neuron_form(name: str, neuron: Neuron) -> NeuronForm:
    """LoweringError naming the layer where the neuron has no exact integer form."""
    if not isinstance(neuron, LIF):
        raise LoweringError(
            f"neuron of {name!r} is a {type(neuron).__name__}: only LIF with a power-of-two leak is exact"
        )
    membrane = neuron.membrane
    if membrane is not None and membrane.log2_step is None:
        raise LoweringError(
            f"membrane of {name!r} is stored by {type(membrane).__name__}, whose grid is not a fixed power of two; "
            "use compress.freeze_membranes(model) and fine-tune"
        )
    lost = 1 - neuron.leak
    shift = 0 if lost == 0 else round(-math.log2(lost)) if lost < 1 else None
    if shift is None or (lost > 0 and (lost != 2.0**-shift or not 1 <= shift <= 15)):
        raise LoweringError(f"leak of {name!r} is {neuron.leak:g}: exact leaks are 1 - 2^-j for j = 1 to 15, and 1")
    bits = membrane.precision.bits if membrane is not None else 16
    step = membrane.log2_step if membrane is not None else None
    gain = neuron.input_gain() if neuron.decay_input else 1.0
    return NeuronForm(neuron.threshold, shift, neuron.reset == "soft", bits, step, gain)


def source_form(name: str, current: nn.Module, edge_scale: float, edge_limit: float, input_gain: float) -> Source:
    """The current's integer weights (gradients kept) and its real gain and offset.

    edge_scale: real value of one integer unit on the source edge; edge_limit: largest |integer| on it.
    """
    if isinstance(current, nn.Identity):
        scale = torch.tensor(edge_scale * input_gain)
        return Source(None, None, 0, scale, torch.zeros(()), edge_limit)
    if not isinstance(current, Synapse):
        raise LoweringError(f"current of {name!r} is a {type(current).__name__}, accepted: ConvBN, LinearBN, Identity")
    layer, norm = current.layer, current.norm
    _check_layer(name, layer)
    if norm.weight is None or norm.bias is None or norm.running_mean is None or norm.running_var is None:
        raise LoweringError(f"batch norm of {name!r} needs gain, offset and running statistics to be folded")
    weight, scale, bits = quantized_weight(name, layer)
    if scale.numel() not in (1, weight.shape[0]):
        raise LoweringError(
            f"weights of {name!r} share scales in groups of their inputs, which no per-channel fold holds"
        )
    gain, offset = (p.float() for p in batch_norm_affine(norm))  # the integers do not depend on the model's precision
    gain = gain * scale.float().flatten() * (edge_scale * input_gain)
    reach = float(weight[0].numel() * (2 ** (bits - 1) - 1 if bits > 1 else 1) * edge_limit)
    return Source(layer, weight, bits, gain, offset * input_gain, reach)


def _check_layer(name: str, layer: nn.Conv2d | nn.Linear) -> None:
    if layer.bias is not None:
        raise LoweringError(f"the layer of {name!r} has a bias; batch norm follows it, so it must have none")
    if isinstance(layer, nn.Conv2d):
        if layer.dilation != (1, 1) or layer.padding_mode != "zeros":
            raise LoweringError(f"{name!r}: dilated or non-zero-padded convolutions have no exact form here")
        if isinstance(layer.padding, str) or len(set(layer.stride)) > 1 or len(set(layer.padding)) > 1:
            raise LoweringError(f"{name!r}: stride and padding must be numbers, equal on both axes")


def quantized_weight(name: str, layer: nn.Module) -> tuple[Tensor, Tensor, int]:
    """(integers with straight-through gradients, scale, bits) of a layer's weight."""
    quantizer = weight_quantizer(layer)
    if quantizer is None:
        raise LoweringError(f"weights of {name!r} are full precision; attach a quantizer with compress.apply")
    integers, scale = quantizer.integers(quantizer_input(layer))
    return integers, scale, quantizer.precision.bits


def fold(sources: list[Source], neuron: NeuronForm, pixels: bool) -> Folded:
    """Per-channel integers of a unit; ``pixels`` says that its source is the u8 input.

    Gradients reach batch norm through ``multiplier`` and ``bias`` by straight-through rounding, such that
    delta * (integer membrane - threshold) has the derivative of the real membrane.
    """
    channels = max(s.gain.numel() for s in sources)
    main = sources[0].gain.detach().abs().expand(channels)
    headroom = CURRENT_LIMIT / max(sum(s.reach for s in sources), 1.0)
    fraction = 0 if pixels else min(FRACTION_BITS, max(0, math.floor(math.log2(headroom))))
    limit = PIXEL_THRESHOLD_LIMIT if pixels else SPIKE_THRESHOLD_LIMIT
    delta = (main / 2**fraction).clamp(neuron.threshold / limit, neuron.threshold / THRESHOLD_FLOOR)
    multiplier = torch.stack([round_ste(s.gain.expand(channels) / delta) for s in sources])
    offset: Tensor = sum((s.offset for s in sources), torch.zeros_like(delta))
    bias = round_ste(offset.expand(channels) / delta)
    threshold = (neuron.threshold / delta).round()
    return Folded(multiplier, bias, threshold, _membrane_shift(neuron, threshold, delta), delta)


def _membrane_shift(neuron: NeuronForm, threshold: Tensor, delta: Tensor) -> Tensor:
    """Per-channel power of two between the membrane's stored grid and the channel's unit."""
    if neuron.log2_step is not None:
        shift = torch.log2(2.0**neuron.log2_step / delta).round()
    else:  # store 16 bits over at least twice the threshold
        shift = torch.log2(threshold.clamp_min(1)).ceil() - 14
    return shift.clamp(0, 24)
