"""The one place that decides what runs a convolution of spikes: torch, or Winograd's tiles where they are asked for.

They give the same up to rounding, and torch's is what a network is measured and deployed with: so tiles are for training, and
for those who ask. A convolution's backward pass is of the same kind as its forward pass was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .native import winograd
from .saved_bits import Pair, bit_conv2d

__all__ = ["spike_conv2d", "winograd_convolutions", "winograd_refusal"]

# Below these, measured on one core with AVX-512, the way to points and back takes what the products save.
LEAST_CHANNELS, LEAST_PAIRS, LEAST_TILES = 16, 512, 16
GEOMETRY = (1, 1), (1, 1), (1, 1), 1  # stride, padding, dilation, groups
_asked = [0]  # how many winograd_convolutions() blocks are open


@contextmanager
def winograd_convolutions() -> Iterator[None]:
    """Inside the ``with`` block, in all threads, convolutions of spikes take fewer multiplications where they can.

    :func:`winograd_refusal` says where. A pass that is repeated in backward, as by checkpoints, belongs inside too.
    """
    _asked[0] += 1
    try:
        yield
    finally:
        _asked[0] -= 1


def spike_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """``F.conv2d`` that keeps an input of spikes as bits: ``x`` (N, C, H, W), ``weight`` (M, C / groups, K, K)."""
    if winograd_refusal(x, weight, stride, padding, dilation, groups) is None:
        return winograd.run(x, weight, bias)
    return bit_conv2d(x, weight, bias, stride, padding, dilation, groups)


def winograd_refusal(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> str | None:
    """Why this convolution would be torch's, None where it would be Winograd's."""
    if not _asked[0]:
        return "winograd_convolutions() is not in force"
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return "a graph is exported, in which other tools know torch's own operators only"
    if (reason := winograd.refusal(x, weight)) is not None:
        return reason
    if weight.shape[2:] != (3, 3) or (tuple(stride), tuple(padding), tuple(dilation), groups) != GEOMETRY:
        return "its kernel is not 3x3 with stride 1, padding 1, dilation 1 and one group"
    outputs, inputs = weight.shape[:2]
    if min(inputs, outputs) < LEAST_CHANNELS or inputs * outputs < LEAST_PAIRS:
        return (
            f"it has {inputs} inputs and {outputs} outputs, fewer than {LEAST_CHANNELS} or {LEAST_PAIRS} pairs of them"
        )
    samples, _, height, width = x.shape
    tiles = -(-height // 4) * -(-width // 4)
    if height * width < 8 * tiles:
        return f"a map of {height}x{width} would leave more than half of its 4x4 tiles empty"
    if samples * tiles < LEAST_TILES:
        return f"{samples} maps of {height}x{width} have {samples * tiles} tiles of 4x4, fewer than {LEAST_TILES}"
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        return "autocast asks for another precision"
    return None
