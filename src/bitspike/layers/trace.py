"""The steps a model runs and which earlier ones they read, found by symbolic tracing.

Structural pruning and lowering both read it. A step is a module that computes something by itself (an encoding, synapses,
neurons, units, pools, a readout), an addition, or an :class:`Operation`. Modules made of others are traced into; those
whose forward works on shapes say what they consist of by :func:`expands`. Anything else is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from ..encode import DirectEncoding
from ..errors import LoweringError
from ..neurons import Neuron
from .pool import AvgPool, MaxPool
from .readout import Readout
from .synapse import Synapse
from .unit import SpikingUnit

__all__ = ["Operation", "Recorder", "Step", "Traced", "expands", "is_readout", "trace"]

LEAVES = (DirectEncoding, SpikingUnit, Synapse, Neuron, MaxPool, AvgPool, Readout)
SKIPPED = (nn.Identity, nn.Dropout)
ADDITIONS = (operator.add, operator.iadd, torch.add, "add")

Traced: TypeAlias = "int | tuple[Traced, ...]"
"""What a module returns: the index of a step, or a tuple."""


class Operation:
    """A step without parameters of its own, described by a frozen dataclass; see :mod:`.expand`."""


@dataclass(frozen=True)
class Step:
    """One operation: a leaf module or an :class:`Operation` (None for an addition), its name, and the steps it reads."""

    name: str
    module: nn.Module | Operation | None
    sources: tuple[int, ...]


Expansion = Callable[["Recorder", str, Any, tuple[Traced, ...]], Traced]
_EXPANSIONS: dict[type[nn.Module], Expansion] = {}


def expands(kind: type[nn.Module]) -> Callable[[Expansion], Expansion]:
    """Register a function of (recorder, name, module, inputs) that records the steps of a ``kind`` and returns its output."""

    def register(expansion: Expansion) -> Expansion:
        _EXPANSIONS[kind] = expansion
        return expansion

    return register


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, LEAVES) or type(m) in _EXPANSIONS or hasattr(m, "no_integer_form")
        return known or super().is_leaf_module(m, module_qualified_name)


class Recorder:
    """The steps of a model, as its modules are called one after the other."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def call(self, name: str, module: nn.Module, *inputs: Traced) -> Traced:
        """Record ``module`` on the results of earlier steps; LoweringError naming it where that cannot be."""
        if isinstance(module, SKIPPED):
            return inputs[0]
        if isinstance(module, DirectEncoding):
            if self.steps:
                raise LoweringError(f"{name}: the encoding is called once, before everything else")
            return self.add(name, module)
        if isinstance(module, LEAVES):
            return self.add(name, module, *inputs)
        if type(module) in _EXPANSIONS:
            return _EXPANSIONS[type(module)](self, name, module, inputs)
        reason = getattr(module, "no_integer_form", None)  # what a module says of itself
        if reason is not None:
            raise LoweringError(f"layer {name!r} is a {type(module).__name__}: {reason}")
        if type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential):
            raise LoweringError(
                f"layer {name!r} is a {type(module).__name__}, which has no exact integer form here; accepted: "
                f"{', '.join(leaf.__name__ for leaf in LEAVES)}"
            )
        return self.run(module, inputs, name)

    def add(self, name: str, module: nn.Module | Operation | None, *inputs: Traced) -> int:
        """Record one step that reads single results."""
        sources = []
        for read in inputs:
            if not isinstance(read, int):
                raise LoweringError(f"{name!r} reads {len(read)} results at once; accepted: one for each input")
            sources.append(read)
        self.steps.append(Step(name, module, tuple(sources)))
        return len(self.steps) - 1

    def run(self, module: nn.Module, inputs: tuple[Traced, ...], prefix: str = "") -> Traced:
        """Record what the forward of ``module`` calls, and return what it returns."""
        try:
            graph = _Tracer().trace(module)
        except Exception as error:  # fx raises many types for control flow that depends on data
            raise LoweringError(f"{type(module).__name__}.forward cannot be traced: {error}") from error
        known: dict[fx.Node, Traced] = {}
        waiting = list(inputs)
        for node in graph.nodes:
            if node.op == "placeholder":
                if waiting:
                    known[node] = waiting.pop(0)
                continue
            if node.op == "output":
                return self._returned(module, prefix, node, known)
            known[node] = self._node(module, prefix, node, known)
        raise LoweringError(f"{type(module).__name__}.forward returns nothing")

    def _returned(self, module: nn.Module, prefix: str, node: fx.Node, known: dict[fx.Node, Traced]) -> Traced:
        try:
            return _value(node, node.args[0], known)
        except LoweringError:
            what = "its readout" if not prefix else "results of its modules"
            raise LoweringError(f"{prefix or type(module).__name__} must return {what}") from None

    def _node(self, owner: nn.Module, prefix: str, node: fx.Node, known: dict[fx.Node, Traced]) -> Traced:
        if node.op == "call_module":
            name, module = (
                f"{prefix}.{node.target}" if prefix else str(node.target),
                owner.get_submodule(str(node.target)),
            )
            if node.kwargs:
                raise LoweringError(f"{name} is called with {', '.join(node.kwargs)}=...; accepted: inputs by position")
            inputs = () if isinstance(module, DirectEncoding) else tuple(_value(node, a, known) for a in node.args)
            return self.call(name, module, *inputs)
        name = getattr(node.target, "__name__", str(node.target))
        if node.op not in ("call_function", "call_method") or node.target not in ADDITIONS:
            raise LoweringError(
                f"operation {name!r} ({node.name}) has no exact integer form here; accepted: modules and addition"
            )
        if node.kwargs:
            raise LoweringError(
                f"{node.name} is called with {', '.join(node.kwargs)}=...; accepted: inputs by position"
            )
        where = f"{prefix}.{node.name}" if prefix else node.name
        return self.add(where, None, *(_value(node, a, known) for a in node.args))


def trace(model: nn.Module) -> list[Step]:
    """Steps in execution order, the encoding first and the readout last; LoweringError where that cannot be."""
    recorder = Recorder()
    name = type(model).__name__
    steps, result = recorder.steps, recorder.run(model, ())
    if result != len(steps) - 1:
        raise LoweringError(f"{name} must return its readout")
    if not isinstance(steps[0].module, DirectEncoding) or not is_readout(steps[-1]):
        raise LoweringError(f"{name} must begin with a DirectEncoding and end with a Readout")
    return steps


def is_readout(step: Step) -> bool:
    """Whether the step gives logits."""
    return isinstance(step.module, Readout) or getattr(step.module, "gives_logits", False)


def _value(node: fx.Node, argument: Any, known: dict[fx.Node, Traced]) -> Traced:
    if isinstance(argument, fx.Node) and argument in known:
        return known[argument]
    if isinstance(argument, tuple | list) and argument:
        return tuple(_value(node, a, known) for a in argument)
    raise LoweringError(f"{node.name} reads {argument!r}; every operation reads results of earlier ones")
