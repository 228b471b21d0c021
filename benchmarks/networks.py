"""Networks to time: random weights with the spread of trained ones, thresholds set so that layers fire as trained ones do.

Speed depends on shapes, bits and firing rates, not on what the weights mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from bitspike.deploy import ir, reference

WIDTHS = {
    "digits": (32, 64, "P", 64, "P"),
    "vgg8": (64, 64, "P", 128, 128, "P", 256, 256, "P", 512),
}
SHAPES = {"digits": (1, 8, 8), "vgg8": (3, 32, 32)}
TIME_STEPS = 4
CLASSES = 10
EDGE_BITS = 8
CALIBRATION_SAMPLES = 2


def smooth_images(shape: Sequence[int], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """u8 images (count, C, H, W) with the low frequencies of photographs; pure noise would average out."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.float64)
    for _ in range(3):
        images = sum(np.roll(images, s, a) for s, a in ((0, 2), (1, 2), (-1, 2), (1, 3))) / 4
    low, high = images.min(), images.max()
    return ((images - low) / (high - low) * 255).round().astype(np.uint8)


def network(name: str, bits: int, rate: float = 0.08, seed: int = 0) -> ir.Graph:
    """VGG-style graph ``name`` (a key of WIDTHS) with ``bits``-bit weights; first and last layer have 8 bits.

    Every channel fires at about ``rate`` on smooth images: its bias removes the mean of its current, as batch norm does,
    and its threshold is that quantile of the membrane. Membranes are stored in 4 bits.
    """
    rng = np.random.default_rng(seed)
    shape = SHAPES[name]
    samples = smooth_images(shape, CALIBRATION_SAMPLES, seed + 1)
    zero_point = tuple(int(m) for m in samples.mean((0, 2, 3)))
    nodes: list[ir.Node] = [ir.Input(*shape, 1, zero_point)]
    names = ["input"]
    values = samples.astype(np.int64) - np.asarray(zero_point)[:, None, None]
    edge_values = np.broadcast_to(values, (TIME_STEPS, *values.shape))  # (T, N, C, H, W)
    for entry in WIDTHS[name]:
        edge = len(nodes) - 1
        if entry == "P":
            nodes.append(ir.OrPool(edge, 2, 2))
            names.append(f"pool{len(nodes)}")
            t, n, c, h, w = edge_values.shape
            edge_values = edge_values.reshape(t, n, c, h // 2, 2, w // 2, 2).max((4, 6))
        else:
            own_bits = EDGE_BITS if edge == 0 else bits
            weight = _weights(rng, (int(entry), edge_values.shape[2], 3, 3), own_bits)
            current = _convolve(edge_values, weight)
            lif = _neurons(edge + 1, current, rate)
            nodes += [ir.Conv(edge, weight, own_bits, padding=1), lif]
            names += [f"conv{len(nodes)}", f"lif{len(nodes)}"]
            edge_values = reference.lif(current, lif)
    weight = _weights(rng, (CLASSES, edge_values.shape[2]), EDGE_BITS)
    nodes.append(ir.Readout(len(nodes) - 1, weight, np.zeros(CLASSES, np.int32), EDGE_BITS, True))
    return ir.Graph(TIME_STEPS, nodes, [*names, "readout"], meta={"network": name, "weight_bits": bits})


def _weights(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> NDArray[np.int8]:
    if bits == 1:
        return rng.choice([-1, 1], shape).astype(np.int8)
    limit = 2 ** (bits - 1) - 1
    return np.clip(np.rint(rng.normal(0, limit / 2.5, shape)), -limit, limit).astype(np.int8)


def _convolve(values: NDArray[np.int64], weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """Exact: every sum of these integers is far below 2^53."""
    flat = torch.from_numpy(values.reshape(-1, *values.shape[2:]).astype(np.float64))
    out = F.conv2d(flat, torch.from_numpy(weight).double(), padding=1).numpy()
    return np.rint(out).astype(np.int64).reshape(*values.shape[:2], *out.shape[1:])


def _neurons(source: int, current: NDArray[np.int64], rate: float) -> ir.Lif:
    """Neurons for ``current`` (T, N, M, H, W)."""
    bias = -np.rint(current.mean((0, 1, 3, 4))).astype(np.int32)
    reach = np.quantile(current[0] + bias[:, None, None], 1 - rate, (0, 2, 3))
    threshold = np.ceil(np.maximum(reach, 1) * 1.15).astype(np.int32)  # the sum over time reaches further than one step
    shift = np.maximum(np.ceil(np.log2(threshold / 7)), 0).astype(np.uint8)
    ones = np.ones((1, len(bias)), np.int32)
    return ir.Lif((source,), ones, bias, threshold, shift, membrane_bits=4, leak_shift=1)
