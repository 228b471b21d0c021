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
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import LoweringError
from ..layers import ChannelShortcut, Synapse
from ..layers.norm import batch_norm_affine
from ..neurons import LIF, Neuron, ReachingLIF
from ..ops import quantizer_input, round_ste, weight_quantizer

__all__ = [
    "Folded",
    "NeuronForm",
    "QuantizedWeight",
    "Source",
    "fold",
    "neuron_form",
    "quantized_weight",
    "source_form",
]

THRESHOLD_FLOOR = 2.0  # keeps channels of huge gain (no variance in training) comparing offset and threshold


@dataclass(frozen=True)
class Units:
    """How finely a unit's membranes count.

    fraction_bits: at most so many below the main source's unit, as long as currents stay below current_limit.
    threshold_limit: of the threshold, where a channel has next to no gain. counted: its currents are exact numbers of
    coincidences, which often meet the threshold, so that "above" and "at least" differ.
    """

    fraction_bits: int
    current_limit: int
    threshold_limit: float
    counted: bool = False


SPIKE_UNITS = Units(4, 2**14, 2.0**13)  # keeps channels without gain within 16 bits
FINE_UNITS = Units(0, 2**14, 2.0**21)  # of u8 inputs and streams; fp32 stays exact below 2^24
COUNTED_UNITS = Units(4, 2**22, 2.0**13, counted=True)


@dataclass(frozen=True)
class QuantizedWeight:
    """``integers`` (gradients kept) times ``scale``; ``bits`` and ``odd`` as in ``deploy.ir.Conv``."""

    integers: Tensor
    scale: Tensor
    bits: int
    odd: bool

    @property
    def largest(self) -> int:
        """The largest |integer| of this precision."""
        return 2**self.bits - 1 if self.odd or self.bits == 1 else 2 ** (self.bits - 1) - 1


@dataclass(frozen=True)
class Source:
    """One current of a unit: ``weight`` (M, C / groups, kh, kw) of a convolution, (M, K) of a linear layer, or None where
    the spikes themselves are the current. ``gain``, ``offset``: (C,) or scalars, real."""

    weight: Tensor | None
    gain: Tensor
    offset: Tensor
    reach: float  # largest |integer sum| that any weights of this precision could give
    bits: int = 0
    odd: bool = False
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True)
class NeuronForm:
    """The integer-relevant constants of a neuron; ``log2_step`` None: the membrane is stored in 16 bits, saturating."""

    threshold: float
    leak_shift: int
    soft_reset: bool
    membrane_bits: int
    log2_step: int | None
    input_gain: float
    reaching: bool = False  # fires at the threshold, not only above


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
    if not isinstance(neuron, LIF | ReachingLIF):
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
    reaching = isinstance(neuron, ReachingLIF)
    return NeuronForm(neuron.threshold, shift, neuron.reset == "soft", bits, step, gain, reaching)


def source_form(
    name: str, current: nn.Module, edge_scale: float | Tensor, edge_limit: float, input_gain: float
) -> Source:
    """The current's integer weights (gradients kept) and its real gain and offset.

    edge_scale: real value of one integer unit on the source edge; edge_limit: largest |integer| on it.
    """
    match current:
        case nn.Identity():
            return Source(None, torch.as_tensor(edge_scale * input_gain).float(), torch.zeros(()), edge_limit)
        case ChannelShortcut():
            gain = torch.as_tensor(edge_scale * input_gain).float()
            return Source(current.weight(), gain, torch.zeros(()), edge_limit, bits=2, stride=current.stride)
        case Synapse():
            return _synapse_form(name, current, edge_scale, edge_limit, input_gain)
        case _:
            raise LoweringError(
                f"current of {name!r} is a {type(current).__name__}, accepted: ConvBN, LinearBN, ChannelShortcut, Identity"
            )


def _synapse_form(
    name: str, current: Synapse, edge_scale: float | Tensor, edge_limit: float, input_gain: float
) -> Source:
    layer, norm = current.layer, current.norm
    _check_layer(name, layer)
    if norm.weight is None or norm.bias is None or norm.running_mean is None or norm.running_var is None:
        raise LoweringError(f"batch norm of {name!r} needs gain, offset and running statistics to be folded")
    weight = quantized_weight(name, layer)
    if weight.scale.numel() not in (1, weight.integers.shape[0]):
        raise LoweringError(
            f"weights of {name!r} share scales in groups of their inputs, which no per-channel fold holds"
        )
    if isinstance(layer, nn.Conv2d) and layer.dilation != (1, 1):
        weight = _spread(name, weight, layer.dilation)
    gain, offset = (p.float() for p in batch_norm_affine(norm))  # the integers do not depend on the model's precision
    if layer.bias is not None:
        offset = offset + gain * layer.bias.float()
    gain = gain * weight.scale.float().flatten() * (edge_scale * input_gain)
    reach = float(weight.integers[0].numel() * weight.largest * edge_limit)
    form = Source(weight.integers, gain, offset * input_gain, reach, weight.bits, weight.odd)
    if isinstance(layer, nn.Linear):
        return form
    return replace(form, stride=layer.stride[0], padding=int(layer.padding[0]), groups=layer.groups)


def _check_layer(name: str, layer: nn.Conv2d | nn.Linear) -> None:
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode != "zeros":
            raise LoweringError(f"{name!r}: non-zero-padded convolutions have no exact form here")
        if isinstance(layer.padding, str) or len(set(layer.stride)) > 1 or len(set(layer.padding)) > 1:
            raise LoweringError(f"{name!r}: stride and padding must be numbers, equal on both axes")


def _spread(name: str, weight: QuantizedWeight, dilation: tuple[int, ...]) -> QuantizedWeight:
    """The kernel of a dilated convolution, with zeros between its taps: levels without zero need a bit more."""
    taps, bits = weight.integers, weight.bits + int(weight.odd or weight.bits == 1)
    if bits > 8:
        raise LoweringError(f"{name!r}: dilated, its 8-bit odd weights and a zero need 9 bits, accepted: 8")
    sizes = [(size - 1) * step + 1 for size, step in zip(taps.shape[2:], dilation, strict=True)]
    spread = taps.new_zeros((*taps.shape[:2], *sizes))
    spread[..., :: dilation[0], :: dilation[1]] = taps
    return QuantizedWeight(spread, weight.scale, bits, False)


def quantized_weight(name: str, layer: nn.Module) -> QuantizedWeight:
    """What the quantizer of a layer's weight gives and declares: 2^b levels without zero are odd integers."""
    quantizer = weight_quantizer(layer)
    if quantizer is None:
        raise LoweringError(f"weights of {name!r} are full precision; attach a quantizer with compress.apply")
    integers, scale = quantizer.integers(quantizer_input(layer))
    precision = quantizer.precision
    odd = precision.bits > 1 and not precision.has_zero and precision.levels == 2**precision.bits
    return QuantizedWeight(integers, scale, precision.bits, odd)


def fold(sources: list[Source], neuron: NeuronForm, units: Units, channels: int = 1) -> Folded:
    """Per-channel integers of a unit of at least ``channels`` channels (more where a source has more).

    Gradients reach batch norm through ``multiplier`` and ``bias`` by straight-through rounding, such that
    delta * (integer membrane - threshold) has the derivative of the real membrane.
    """
    channels = max(channels, *(s.gain.numel() for s in sources))
    main = sources[0].gain.detach().abs().expand(channels)
    headroom = units.current_limit / max(sum(s.reach for s in sources), 1.0)
    fraction = min(units.fraction_bits, max(0, math.floor(math.log2(headroom))))
    lowest, highest = neuron.threshold / units.threshold_limit, neuron.threshold / THRESHOLD_FLOOR
    delta = (main / 2**fraction).clamp(lowest, highest)
    multiplier = torch.stack([round_ste(s.gain.expand(channels) / delta) for s in sources])
    offset: Tensor = sum((s.offset for s in sources), torch.zeros_like(delta))
    bias = round_ste(offset.expand(channels) / delta)
    threshold = (neuron.threshold / delta).round()
    if units.counted:
        threshold = _counted_threshold(neuron, delta)
    return Folded(multiplier, bias, threshold, _membrane_shift(neuron, threshold, delta), delta)


def _counted_threshold(neuron: NeuronForm, delta: Tensor) -> Tensor:
    """The least integer membrane that fires, where currents are exact."""
    level = (neuron.threshold / delta).double()
    nearest = level.round()
    level = torch.where((level - nearest).abs() < 1e-6 * nearest, nearest, level)  # float32 has rounded delta
    return (level.ceil() if neuron.reaching else level.floor() + 1).to(delta.dtype)


def _membrane_shift(neuron: NeuronForm, threshold: Tensor, delta: Tensor) -> Tensor:
    """Per-channel power of two between the membrane's stored grid and the channel's unit."""
    if neuron.log2_step is not None:
        shift = torch.log2(2.0**neuron.log2_step / delta).round()
    else:  # store 16 bits over at least twice the threshold
        shift = torch.log2(threshold.clamp_min(1)).ceil() - 14
    return shift.clamp(0, 24)
