"""The order in which a model's units run and which edges they read, found by symbolic tracing.

Structural pruning and lowering both read it. Such a model is built from :class:`DirectEncoding`,
:class:`SpikingUnit`, the pools and a :class:`Readout`; its ``forward`` may add two spike edges. Anything else is
refused by name.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from ..encode import DirectEncoding
from ..errors import LoweringError
from ..neurons import Neuron
from .pool import AvgPool, MaxPool
from .readout import Readout
from .synapse import Synapse
from .unit import SpikingUnit

__all__ = ["Step", "trace"]

LEAVES = (DirectEncoding, SpikingUnit, MaxPool, AvgPool, Readout)
ADDITIONS = (operator.add, operator.iadd, torch.add, "add")


@dataclass(frozen=True)
class Step:
    """One operation: a leaf module (None for an addition), its name, and the indices of the steps it reads."""

    name: str
    module: nn.Module | None
    sources: tuple[int, ...]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, (*LEAVES, Synapse, Neuron)) or hasattr(m, "no_integer_form")
        return known or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> list[Step]:
    """Steps in execution order, the encoding first and the readout last; LoweringError where that cannot be."""
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # fx raises many types for control flow that depends on data
        raise LoweringError(f"{type(model).__name__}.forward cannot be traced: {error}") from error
    steps: list[Step] = []
    index: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            continue
        if node.op == "output":
            if index.get(node.args[0]) != len(steps) - 1:
                raise LoweringError(f"{type(model).__name__} must return its readout")
            break
        module = _module(model, node)
        if node.kwargs:
            raise LoweringError(
                f"{node.name} is called with {', '.join(node.kwargs)}=...; accepted: inputs by position"
            )
        if isinstance(module, DirectEncoding) and steps:
            raise LoweringError(f"{node.name}: the encoding is called once, before everything else")
        if isinstance(module, nn.Identity | nn.Dropout):
            index[node] = index[node.args[0]]
            continue
        sources = () if isinstance(module, DirectEncoding) else tuple(_source(node, a, index) for a in node.args)
        index[node] = len(steps)
        steps.append(Step(str(node.target) if module is not None else node.name, module, sources))
    if not steps or not isinstance(steps[0].module, DirectEncoding) or not isinstance(steps[-1].module, Readout):
        raise LoweringError(f"{type(model).__name__} must begin with a DirectEncoding and end with a Readout")
    return steps


def _module(model: nn.Module, node: fx.Node) -> nn.Module | None:
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if isinstance(module, (*LEAVES, nn.Identity, nn.Dropout)):
            return module
        reason = getattr(module, "no_integer_form", None)  # what a module says of itself
        if reason is not None:
            raise LoweringError(f"layer {node.target!r} is a {type(module).__name__}: {reason}")
        raise LoweringError(
            f"layer {node.target!r} is a {type(module).__name__}, which has no exact integer form here; accepted: "
            f"{', '.join(leaf.__name__ for leaf in LEAVES)}"
        )
    if node.op in ("call_function", "call_method") and node.target in ADDITIONS:
        return None
    name = getattr(node.target, "__name__", node.target)
    raise LoweringError(
        f"operation {name!r} ({node.name}) has no exact integer form here; accepted: modules and addition"
    )


def _source(node: fx.Node, argument: Any, index: dict[fx.Node, int]) -> int:
    if isinstance(argument, fx.Node) and argument in index:
        return index[argument]
    raise LoweringError(f"{node.name} reads {argument!r}; every operation reads results of earlier ones")
