"""Edges of the exact forward: what their integers mean in real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import LoweringError

__all__ = ["Edge", "ExactLayer"]


@dataclass(frozen=True, eq=False)
class Edge:
    """An edge of integers; ``kind`` as in :mod:`.ir`.

    scale: real value of integer 1. limit: largest |integer|. reach: largest |real value| to be expected, () or (C,); None
    where that is ``scale · limit``. shape: (C, H, W), ones where it is not known yet.
    """

    kind: str
    scale: float | Tensor
    limit: float
    reach: Tensor | None = None
    shape: tuple[int, ...] = (1, 1, 1)

    @property
    def pixels(self) -> bool:
        """Whether it is the u8 input."""
        return self.kind == "input"

    @property
    def expected(self) -> float | Tensor:
        """``reach``, or what the limit allows."""
        return self.scale * self.limit if self.reach is None else self.reach


SPIKES = Edge("spikes", 1.0, 1.0)


class ExactLayer(nn.Module):
    """One step of an exact model on integers held in floats: ``forward(*values, edges=...)``, values (T, N, C, H, W).

    ``edges`` are those of the values. They depend on their shapes and on parameters, so they are found at each call.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def edge(self, inputs: Sequence[Edge]) -> Edge:
        """The edge of what ``forward`` returns, its shape left open."""
        raise TypeError(f"{type(self).__name__} defines no edge")

    def only(self, inputs: Sequence[Edge], *kinds: str) -> None:
        """LoweringError unless all inputs are of these kinds."""
        for edge in inputs:
            if edge.kind not in kinds:
                raise LoweringError(f"{self.name!r} reads an edge of kind {edge.kind}, accepted: {', '.join(kinds)}")
