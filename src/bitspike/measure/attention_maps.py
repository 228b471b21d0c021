"""What the attention of a network looks at: maps of one forward pass, and those of one sample as plain values to draw.

A mixer says by :class:`~bitspike.layers.MapsAttention` what its map is made of; hooks collect it, so that nothing is kept in
the network and a forward pass that nobody watches computes no map.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..layers import MapsAttention

__all__ = ["AttentionMap", "attention_of_sample", "observe_attention"]

LAYERS, HEADS = 8, 6  # drawn at most


@dataclass(frozen=True)
class AttentionMap:
    """Attention of layer ``name``: "pairs" (T, N, heads, queries, keys), "tokens" (T, N, heads, tokens) or "channels" (T, N,
    heads, channels); tokens lie row by row on ``grid`` (height, width)."""

    name: str
    kind: str
    values: Tensor
    grid: tuple[int, int]


@contextmanager
def observe_attention(model: nn.Module) -> Iterator[list[AttentionMap]]:
    """Collect, in order of computation, the map of every mixer that runs inside the ``with`` block, without gradient."""
    maps: list[AttentionMap] = []
    with ExitStack() as hooks:
        for name, mixer in model.named_modules():
            if isinstance(mixer, MapsAttention):
                _watch(name, mixer, maps, hooks)
        yield maps


def _watch(name: str, mixer: Any, maps: list[AttentionMap], hooks: ExitStack) -> None:
    outputs: dict[str, Tensor] = {}

    def gather(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        with torch.no_grad():
            values = mixer.attention_map(*(outputs[source].detach() for source in mixer.map_sources))
        outputs.clear()
        height, width = inputs[0].shape[-2:]
        maps.append(AttentionMap(name, mixer.map_kind, values, (height, width)))

    for source in mixer.map_sources:
        hook = mixer.get_submodule(source).register_forward_hook(
            lambda _m, _i, out, source=source: outputs.__setitem__(source, out)
        )
        hooks.callback(hook.remove)
    hooks.callback(mixer.register_forward_hook(gather).remove)


@torch.no_grad()
def attention_of_sample(model: nn.Module, inputs: Tensor) -> list[dict[str, Any]]:
    """Maps for one sample of ``inputs`` (1, C, H, W) or (T, 1, C, H, W), as in ``measure.report``; none without attention.

    Up to 8 evenly spaced layers, the first 6 heads of each. "tokens" and "channels": the share of steps in which one
    passes. "pairs": what each token receives from all queries, and from the one ``query`` that attends most (the first of
    equals), both summed over the steps and divided by the head's largest.
    """
    with observe_attention(model) as maps:
        model(inputs)
    shown = np.linspace(0, max(len(maps) - 1, 0), min(LAYERS, len(maps))).round().astype(int)
    return [_summary(maps[index]) for index in shown]


def _summary(found: AttentionMap) -> dict[str, Any]:
    values = found.values[:, 0].double().cpu()
    layer: dict[str, Any] = {"name": found.name, "kind": found.kind, "grid": list(found.grid), "heads": values.shape[1]}
    if found.kind != "pairs":
        return layer | {"maps": _rounded(values.mean(0)[:HEADS])}
    pairs = values.sum(0)
    query = int(pairs.sum((0, 2)).argmax())
    return layer | {
        "maps": _rounded(_relative(pairs.sum(1)[:HEADS])),
        "query": query,
        "of_query": _rounded(_relative(pairs[:HEADS, query])),
    }


def _relative(heads: Tensor) -> Tensor:
    """(heads, tokens) with the largest of every head at 1, or all 0."""
    largest = heads.amax(1, keepdim=True)
    return torch.where(largest > 0, heads / largest, 0.0)


def _rounded(values: Tensor) -> list[list[float]]:
    rows: list[list[float]] = [[round(v, 4) for v in row] for row in values.tolist()]
    return rows
