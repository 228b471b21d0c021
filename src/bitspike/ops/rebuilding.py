"""A tensor that is cheaply made again from another one is not kept for backward.

A current is an affine map of what a convolution gave, which batch norm keeps anyway; a neuron that keeps its current, to
go through the steps once more in backward, would keep the same numbers a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from .packing import pack, unpack

__all__ = ["made_again", "rebuild_of", "rebuild_sum", "rebuildable"]

Rebuild = Callable[[], Tensor]
MARK = "_bitspike_rebuild"


def rebuildable(x: Tensor, rebuild: Rebuild | None) -> Tensor:
    """``x`` itself, marked: ``rebuild()``, called in backward, gives the same bits in the same order of memory."""
    if rebuild is not None and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        setattr(x, MARK, rebuild)
    return x


def rebuild_of(x: Tensor) -> Rebuild | None:
    """How ``x`` was marked; views of ``x`` are not."""
    return None if torch.compiler.is_compiling() else getattr(x, MARK, None)


def rebuild_sum(terms: Sequence[Tensor]) -> Rebuild | None:
    """How the sum of ``terms`` is made again: from what they are marked with, or their bits; None where a term has neither."""
    rebuilds = []
    for term in terms:
        rebuild = rebuild_of(term)
        if rebuild is None:
            packed = pack(term) if torch.is_grad_enabled() and not torch.compiler.is_compiling() else None
            if packed is None:
                return None
            rebuild = lambda packed=packed: unpack(packed)  # noqa: E731
        rebuilds.append(rebuild)

    def rebuild_all() -> Tensor:
        total = rebuilds[0]()
        for rebuild in rebuilds[1:]:
            total = total + rebuild()
        return total

    return rebuild_all


@dataclass(frozen=True)
class _Recipe:
    """A tensor that was not kept: ``shape`` and ``stride`` of a view of all that ``rebuild`` gives."""

    rebuild: Rebuild
    shape: torch.Size
    stride: tuple[int, ...]


@contextmanager
def made_again(x: Tensor) -> Iterator[None]:
    """What operations inside keep of all of ``x``, a marked tensor, is its recipe; other tensors are kept as ever."""
    rebuild = rebuild_of(x)
    if rebuild is None or not x.requires_grad:
        yield
        return
    memory = _memory(x)  # the hook lives as long as the graph, so it must not hold x

    def keep(saved: Tensor) -> Tensor | _Recipe:
        return _Recipe(rebuild, saved.shape, saved.stride()) if _memory(saved) == memory else saved

    with saved_tensors_hooks(keep, _made):
        yield


def _memory(x: Tensor) -> tuple[int, int, torch.dtype] | None:
    """Where the values of ``x`` lie, None where it has none: equal for views that each show all of a tensor."""
    return (x.data_ptr(), x.numel(), x.dtype) if x.numel() else None


def _made(kept: Any) -> Tensor:
    if not isinstance(kept, _Recipe):
        return kept
    with torch.no_grad():
        return kept.rebuild().as_strided(kept.shape, kept.stride)
