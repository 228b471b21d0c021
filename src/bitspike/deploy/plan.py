"""From the steps of a model to the layers of its exact forward.

Synapses and neurons that follow each other become one unit, as in a deployed graph. A current that more than one step
reads, or that neurons do not read directly, becomes a stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from ..encode import DirectEncoding
from ..errors import LoweringError
from ..layers import (
    AvgPool,
    Copies,
    Heads,
    Mask,
    MatrixProduct,
    MaxPool,
    Mean,
    Multiplication,
    Readout,
    Scaling,
    SelfAttention,
    SpikeSums,
    SpikingUnit,
    Step,
    Synapse,
)
from ..neurons import DecoupledSaccadic, Neuron, Saccadic
from .edges import Edge, ExactLayer
from .exact_layers import (
    Attend,
    Concatenate,
    HeadSums,
    LargestValue,
    LetPass,
    Multiply,
    Present,
    Sum,
    Times,
    WindowSum,
)
from .exact_mix import ExactMix
from .exact_stream import ExactStream, ExactStreamReadout
from .exact_unit import ExactReadout, ExactUnit

__all__ = ["Plan"]

COUNTED = ("spikes", "counts")
MOST_TERMS = 4  # of a stream


@dataclass(frozen=True)
class Term:
    """A summand of a current: a synapse or shortcut on the edge of layer ``source``, its name, and a factor on it."""

    current: nn.Module
    source: int
    name: str
    share: float = 1.0


class Plan:
    """``layers``, the ``sources`` of each (indices of earlier layers), and their ``edges`` as far as shapes do not matter."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.layers: list[ExactLayer] = []
        self.sources: list[tuple[int, ...]] = []
        self.edges: list[Edge] = []
        self._steps = steps
        self._readers = Counter(source for step in steps for source in step.sources)
        self._values: list[int | list[Term]] = []  # of each step: its layer, or a current that nothing holds yet
        for step in steps:
            self._values.append(self._step(step))

    def _step(self, step: Step) -> int | list[Term]:
        name, module, sources = step.name, step.module, step.sources
        match module:
            case DirectEncoding():
                return self._append(Present(name, module))
            case Synapse():
                return [Term(module, self._weighted_source(name, sources[0]), name)]
            case SpikingUnit():
                read = [self._settled(s) for s in sources]
                labels = [f"{name}.currents.{i}" for i in range(len(module.currents))]
                return self._append(ExactUnit(name, module, [self.edges[i] for i in read], labels), *read)
            case Saccadic() | DecoupledSaccadic():
                return self._append(ExactMix(name, module), self._ready(sources[0]))
            case Neuron():
                return self._neurons(name, module, sources[0])
            case None:
                return self._sum(name, *sources)
            case MaxPool():
                return self._append(LargestValue(name, module), self._settled(sources[0], name))
            case AvgPool():
                return self._append(WindowSum(name, module), self._settled(sources[0], name))
            case SelfAttention():
                return self._append(Attend(name, module), *(self._settled(s, name) for s in sources))
            case SpikeSums():
                return self._append(HeadSums(name, module), self._settled(sources[0], name))
            case Mask():
                return self._append(LetPass(name), *(self._settled(s, name) for s in sources))
            case MatrixProduct():
                return self._append(Multiply(name, module), *(self._settled(s, name) for s in sources))
            case Scaling():
                return self._append(ExactStream(name, [nn.Identity()], [name], factors=module), self._ready(sources[0]))
            case Mean():
                return [replace(self._identity(s), share=0.5) for s in sources]
            case Multiplication():
                return self._append(Times(name), *(self._ready(s) for s in sources))
            case Copies():
                return self._append(Concatenate(name), *[self._settled(sources[0], name)] * module.count)
            case Readout():
                return self._readout(name, [module], sources)
            case Heads():
                return self._readout(name, module.readouts, sources)
            case _:
                raise LoweringError(f"{name!r}: {type(module).__name__} has no exact integer form")

    def _append(self, layer: ExactLayer, *sources: int) -> int:
        self.layers.append(layer)
        self.sources.append(sources)
        self.edges.append(layer.edge([self.edges[s] for s in sources]))
        return len(self.layers) - 1

    def _neurons(self, name: str, neuron: Neuron, source: int) -> int:
        terms = self._terms(source)
        if not self._one_unit(terms):
            terms = [Term(nn.Identity(), self._hold(f"{name}.current", terms), name)]
        terms = sorted(terms, key=lambda term: isinstance(term.current, nn.Identity))  # the first one sets the units
        unit = SpikingUnit(neuron, *(term.current for term in terms))  # type: ignore[arg-type]
        edges = [self.edges[term.source] for term in terms]
        if any(e.pixels and isinstance(t.current, nn.Identity) for t, e in zip(terms, edges, strict=True)):
            raise LoweringError(f"{name!r} reads the input image; only synapses may")
        layer = ExactUnit(name, unit, edges, [term.name for term in terms])
        return self._append(layer, *(term.source for term in terms))

    def _one_unit(self, terms: list[Term]) -> bool:
        """Whether neurons may add the terms themselves: finely scaled ones only where they are alone."""
        kinds = [self.edges[term.source].kind for term in terms]
        coarse = all(k in COUNTED or not isinstance(t.current, nn.Identity) for k, t in zip(kinds, terms, strict=True))
        several = len(terms) == 2 and coarse and "input" not in kinds
        return all(term.share == 1.0 for term in terms) and (len(terms) == 1 or several)

    def _sum(self, name: str, left: int, right: int) -> int | list[Term]:
        values = [self._values[i] for i in (left, right)]
        kinds = [self.edges[v].kind if isinstance(v, int) else "current" for v in values]
        if "input" in kinds:
            raise LoweringError(f"{name!r} reads the input image; only a SpikingUnit may")
        if all(kind in COUNTED for kind in kinds):
            return self._append(Sum(name), *(self._ready(i) for i in (left, right)))
        terms = [self._terms(left), self._terms(right)]
        if len(terms[0]) + len(terms[1]) > MOST_TERMS:
            terms = [
                self._terms(i) if len(t) == 1 else [self._identity(i)]
                for i, t in zip((left, right), terms, strict=True)
            ]
        return terms[0] + terms[1]

    def _terms(self, step: int) -> list[Term]:
        """The summands of a step's result, its own current where nothing else reads it."""
        value = self._values[step]
        if isinstance(value, list) and self._readers[step] == 1:
            return value
        return [self._identity(step)]

    def _identity(self, step: int) -> Term:
        return Term(nn.Identity(), self._ready(step), self._steps[step].name)

    def _ready(self, step: int) -> int:
        """The layer that holds a step's result; a current becomes a stream."""
        value = self._values[step]
        if isinstance(value, list):
            name = self._steps[step].name
            value = self._hold(name if self._steps[step].module is None else f"{name}.stream", value)
            self._values[step] = value
        return value

    def _settled(self, step: int, reader: str | None = None) -> int:
        """As :meth:`_ready`, for readers other than neurons and sums, which read no bare currents and, named, no image."""
        index = self._ready(step)
        if reader is not None and self.edges[index].pixels:
            raise LoweringError(f"{reader!r} reads the input image; only a SpikingUnit may")
        if self.edges[index].kind == "current":
            name = f"{self._steps[step].name}.stream"
            index = self._hold(name, [Term(nn.Identity(), index, name)])
            self._values[step] = index
        return index

    def _hold(self, name: str, terms: list[Term]) -> int:
        parts = ([t.current for t in terms], [t.name for t in terms], [t.share for t in terms])
        layer = ExactStream(name, *parts)
        return self._append(layer, *(term.source for term in terms))

    def _weighted_source(self, name: str, step: int) -> int:
        index = self._ready(step)
        kind = self.edges[index].kind
        if kind not in (*COUNTED, "input"):
            raise LoweringError(
                f"{name!r} reads a {kind} of real numbers; weights meet spikes, counts or the image only"
            )
        return index

    def _readout(self, name: str, readouts: Sequence[Readout], sources: tuple[int, ...]) -> int:
        read = [self._settled(s, name) for s in sources]
        if len(readouts) == 1 and self.edges[read[0]].kind in COUNTED:
            return self._append(ExactReadout(name, readouts[0], self.edges[read[0]]), *read)
        encoding = self._steps[0].module
        assert isinstance(encoding, DirectEncoding)
        return self._append(ExactStreamReadout(name, readouts, encoding.time_steps), *read)
