"""What attentions, streams and heads consist of, step by step: their forwards work on shapes, which tracing cannot see."""

from __future__ import annotations

from torch import Tensor

from ..errors import LoweringError
from .attention import SCALE, QKChannelAttention, QKTokenAttention, SpikingSelfAttention
from .binary_attention import ChannelMapAttention, TokenMapAttention
from .expand import Heads, Mask, MatrixProduct, Mean, Multiplication, Scaling, SelfAttention, SpikeSums
from .heads import TwoHeads
from .reversible import TwoStreams
from .saccadic import KeySalience, LearnedSalience, SaccadicAttention
from .trace import Recorder, Traced, expands

Inputs = tuple[Traced, ...]


def _parts(to: Recorder, name: str, module: object, inputs: Inputs, *parts: str) -> list[Traced]:
    return [to.call(f"{name}.{part}", getattr(module, part), *inputs) for part in parts]


@expands(SpikingSelfAttention)
def _self_attention(to: Recorder, name: str, module: SpikingSelfAttention, inputs: Inputs) -> Traced:
    query, key, value = (
        to.call(f"{name}.{part}", getattr(module, part), *inputs) for part in ("query", "key", "value")
    )
    products = to.add(f"{name}.products", SelfAttention(module.heads, SCALE), query, key, value)
    return to.call(f"{name}.project", module.project, to.call(f"{name}.neuron", module.neuron, products))


@expands(QKTokenAttention)
@expands(QKChannelAttention)
def _masked(to: Recorder, name: str, module: QKTokenAttention | QKChannelAttention, inputs: Inputs) -> Traced:
    query, key = _parts(to, name, module, inputs, "query", "key")
    sums = {3: SpikeSums(module.heads, "channels"), 4: SpikeSums(1, "tokens")}[module.axis]
    mask = to.call(f"{name}.neuron", module.neuron, to.add(f"{name}.sums", sums, query))
    return to.call(f"{name}.project", module.project, to.add(f"{name}.mask", Mask(), key, mask))


def _step_gains(module: TokenMapAttention | ChannelMapAttention) -> Tensor:
    return module.gain[:, 0, :, 0, 0] * SCALE


@expands(TokenMapAttention)
@expands(ChannelMapAttention)
def _binary_map(to: Recorder, name: str, module: TokenMapAttention | ChannelMapAttention, inputs: Inputs) -> Traced:
    query, key, value = _parts(to, name, module, inputs, "query", "key", "value")
    tokens = isinstance(module, TokenMapAttention)
    operands = (key, query) if tokens else (value, key)
    counts = to.add(f"{name}.map", MatrixProduct(module.heads, "left" if tokens else "right"), *operands)
    bits = to.call(f"{name}.map_neuron", module.map_neuron, counts)
    operands = (value, bits) if tokens else (bits, query)
    counts = to.add(f"{name}.counts", MatrixProduct(module.heads, "none"), *operands)
    scaled = to.add(f"{name}.scaled", Scaling(module, _step_gains), counts)
    return to.call(f"{name}.project", module.project, to.call(f"{name}.neuron", module.neuron, scaled))


@expands(TwoStreams)
def _two_streams(to: Recorder, name: str, module: TwoStreams, inputs: Inputs) -> Traced:
    older = newer = inputs[0]
    for position, block in enumerate(module.blocks):
        for part in ("mixer", "mlp"):
            where = f"{name}.blocks.{position}.{part}"
            current = to.call(where, getattr(block, part), newer)
            older, newer = newer, to.add(f"{where}.sum", None, to.add(f"{where}.mean", Mean(), older, newer), current)
    return older, newer


@expands(TwoHeads)
def _two_heads(to: Recorder, name: str, module: TwoHeads, inputs: Inputs) -> Traced:
    (streams,) = inputs
    if isinstance(streams, int) or len(streams) != 2:
        raise LoweringError(f"{name!r} reads two streams, not {streams!r}")
    return to.add(name, Heads((module.labels, module.teacher)), *streams)


def _salience_factors(module: LearnedSalience) -> Tensor:
    return module.log_factor.exp()[None]


@expands(SaccadicAttention)
def _saccadic(to: Recorder, name: str, module: SaccadicAttention, inputs: Inputs) -> Traced:
    query, value = _parts(to, name, module, inputs, "query", "value")
    salience = to.add(f"{name}.sums", SpikeSums(module.heads, "channels"), query)
    match module.salience:
        case KeySalience():
            key = to.call(f"{name}.salience.key", module.salience.key, *inputs)
            keys = to.add(f"{name}.salience.sums", SpikeSums(module.heads, "both"), key)
            salience = to.add(f"{name}.salience", Multiplication(), salience, keys)
        case LearnedSalience():
            salience = to.add(f"{name}.salience", Scaling(module.salience, _salience_factors), salience)
        case other:
            raise LoweringError(f"salience of {name!r} is a {type(other).__name__}, which has no exact integer form")
    gate = to.call(f"{name}.gate", module.gate, salience)
    return to.call(f"{name}.project", module.project, to.add(f"{name}.mask", Mask(), value, gate))
