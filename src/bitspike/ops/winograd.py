"""3x3 convolution in a quarter of the multiplications: Winograd's F(4x4, 3x3), as Lavin and Gray have it (arXiv 1509.09308).

A tile of 4x4 outputs d' comes of the 6x6 inputs d under it and the weights g by 36 products per pair of channels, one for
each point, where the sum itself takes 144::

    d' = A' [(G g G') * (B' d B)] A

The map from inputs to points is one of whole numbers, so that of spikes it is exact; the others round, and what comes out
differs from a convolution's last bits. This is the reference; ``ops.native.winograd`` is what runs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["winograd_conv2d"]

INPUT = (  # B'
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WEIGHT = (  # G
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = (  # A'
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def winograd_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.conv2d`` with padding 1 up to rounding: ``x`` (N, C, H, W) and ``weight`` (M, C, 3, 3) to (N, M, H, W)."""
    height, width = x.shape[2:]
    rows, columns = -(-height // 4), -(-width // 4)
    padded = F.pad(x, (1, 4 * columns + 1 - width, 1, 4 * rows + 1 - height))
    tiles = padded.unfold(2, 6, 4).unfold(3, 6, 4)  # (N, C, rows, columns, 6, 6)
    points = torch.einsum("ncrsij,mcij->nmrsij", _both_sides(INPUT, tiles), _both_sides(WEIGHT, weight))
    out = _both_sides(OUTPUT, points).transpose(3, 4).reshape(len(x), len(weight), 4 * rows, 4 * columns)
    out = out[..., :height, :width]
    return out if bias is None else out + bias[:, None, None]


def _both_sides(matrix: tuple[tuple[float, ...], ...], squares: Tensor) -> Tensor:
    factor = squares.new_tensor(matrix)
    return factor @ squares @ factor.t()
