"""Transformer blocks on two streams that can be run backwards, and sequences of them, with or without stored activations.

    x2 = F(x1) + (x0 + x1) / 2        x3 = G(x2) + (x1 + x2) / 2        next block: (x0, x1) = (x2, x3)

F mixes tokens, G is the MLP, each behind neurons of its own. The first block has no x0 and takes x1 for it, which gives
x2 = F(x1) + x1. Source: BESTformer (IJCAI 2025, arXiv 2501.05904).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import FixedPoint, average_chain, average_step, unwound_chain
from .rebuild import rebuilt_chain
from .tokenizer import NeuronFactory

__all__ = ["ACTIVATIONS", "OneStream", "ReversibleBlock", "TwoStreams"]

Pair = tuple[Tensor, Tensor]


class ReversibleBlock(nn.Module):
    """Two streams of currents (x0, x1), each (T, N, D, H, W), to (x2, x3); convolutions read spikes."""

    def __init__(self, mixer: nn.Module, mlp: nn.Module, neuron: NeuronFactory) -> None:
        super().__init__()
        self.mixer = nn.Sequential(OrderedDict(neuron=neuron(), current=mixer))
        self.mlp = nn.Sequential(OrderedDict(neuron=neuron(), current=mlp))

    @property
    def branches(self) -> tuple[nn.Module, nn.Module]:
        """F and G."""
        return self.mixer, self.mlp

    def forward(self, x0: Tensor, x1: Tensor) -> Pair:
        return average_chain(self.branches, x0, x1)

    def inverse(self, x2: Tensor, x3: Tensor) -> Pair:
        """(x0, x1) from (x2, x3), in evaluation mode; up to rounding, see :class:`TwoStreams`."""
        return unwound_chain(self.branches, x2, x3)


def stored_chain(branches: Sequence[nn.Module], fixed: FixedPoint, x: Tensor) -> Pair:
    """The last two states of the chain that starts from (x, x); its activations are stored for the backward pass."""
    start = fixed(x)
    return average_chain([fixed.around(branch, x.dtype) for branch in branches], start, start)


# name -> the states of a chain, with gradients: from stored activations, or from activations computed a second time
ACTIVATIONS: dict[str, Callable[[Sequence[nn.Module], FixedPoint, Tensor], Pair]] = {
    "stored": stored_chain,
    "rebuilt": rebuilt_chain,
}


class TwoStreams(nn.Module):
    """A sequence of :class:`ReversibleBlock`: currents (T, N, D, H, W) to the last two streams, in the same dtype.

    The streams are float64 on a :class:`~bitspike.ops.FixedPoint` grid, so nothing of them is ever rounded and
    :meth:`inverse` gives back every bit. Neurons and convolutions compute in the dtype of the input. In floating point
    rounding errors would double at every branch on the way back, until neurons near their threshold decide otherwise.

    activations: "stored", or "rebuilt" during the backward pass, from the two last streams alone: memory for one branch
        at a time, for about one forward pass more of time. Gradients are the same. Hooks inside see outputs without
        gradient then, so losses on inner features or firing rates need "stored".
    """

    def __init__(self, blocks: Sequence[ReversibleBlock], activations: str = "stored") -> None:
        super().__init__()
        if activations not in ACTIVATIONS:
            raise ConfigError(f"activations is {activations!r}, accepted: {', '.join(ACTIVATIONS)}")
        self.blocks = nn.ModuleList(blocks)
        self.activations = activations
        self.fixed = FixedPoint.of_chain(len(self.branches))

    @property
    def branches(self) -> list[nn.Module]:
        """F and G of all blocks, in order."""
        return [branch for block in self.blocks for branch in block.branches]  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Pair:
        chain = ACTIVATIONS[self.activations if torch.is_grad_enabled() else "stored"]
        older, newer = chain(self.branches, self.fixed, x)
        return older.to(x.dtype), newer.to(x.dtype)

    @torch.no_grad()
    def states(self, x: Tensor) -> list[Tensor]:
        """Every state of the chain that starts from (x, x), in float64: len(branches) + 2 of (T, N, D, H, W)."""
        found = [self.fixed(x)] * 2
        for branch in self.branches:
            current = self.fixed.around(branch, x.dtype)(found[-1])
            found.append(average_step(found[-2], found[-1], current))
        return found

    @torch.no_grad()
    def inverse(self, older: Tensor, newer: Tensor, dtype: torch.dtype) -> Pair:
        """The two first states from the two last, float64 as :meth:`states` gives them, exactly; in evaluation mode.

        dtype: of the input of :meth:`forward`, in which the branches compute.
        """
        return unwound_chain([self.fixed.around(branch, dtype) for branch in self.branches], older, newer)


class OneStream(nn.Sequential):
    """Blocks on one stream, whose result is given twice: what :class:`TwoStreams` is compared with."""

    def forward(self, input: Tensor) -> Pair:
        out: Tensor = super().forward(input)
        return out, out
