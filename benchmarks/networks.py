"""Graphs to time: random weights with the spread of trained ones, thresholds set so that layers fire as trained ones do.

Speed depends on shapes, bits and firing rates, not on what the weights mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

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
FRONT_CHANNELS = 4
RATE = 0.08


class Layer(NamedTuple):
    """A convolution C -> M on size x size pixels, padded to keep its size."""

    channels: int
    outputs: int
    kernel: int
    size: int

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of one step of one sample, those with the padding included."""
        return self.channels * self.outputs * self.kernel**2 * self.size**2


LAYERS = {
    "32x32x64 3x3": Layer(64, 64, 3, 32),
    "16x16x128 3x3": Layer(128, 128, 3, 16),
    "8x8x256 3x3": Layer(256, 256, 3, 8),
    "4x4x512 3x3": Layer(512, 512, 3, 4),
    "linear 384-1536, 64 tokens": Layer(384, 1536, 1, 8),
    "16x16x128 1x1": Layer(128, 128, 1, 16),
}


def network(
    name: str, bits: int, rate: float = RATE, seed: int = 0, time_steps: int = TIME_STEPS, keep: float = 1.0
) -> ir.Graph:
    """VGG-style graph ``name`` (a key of WIDTHS) with ``bits``-bit weights; first and last layer have 8 bits.

    keep: share of each layer's channels that is left, as after structured pruning.
    """
    builder = Builder(smooth_images(SHAPES[name], CALIBRATION_SAMPLES, seed + 1), time_steps, 1, seed)
    edge = 0
    for entry in WIDTHS[name]:
        if entry == "P":
            edge = builder.or_pool(edge, 2)
        else:
            edge = builder.neurons(builder.conv(edge, round(keep * int(entry)), 3, bits if edge else EDGE_BITS), rate)
    return builder.finish(edge, {"network": name, "weight_bits": bits, "keep": keep})


def one_layer(layer: Layer, bits: int, rate: float, seed: int = 0) -> tuple[ir.Graph, ir.Graph]:
    """A graph of a cheap front that turns noise frames into spikes of ``rate``, ``layer`` with its neurons and a cheap
    readout; and the same graph without the layer. The layer's time is the difference."""
    graphs = []
    for with_layer in (True, False):
        builder = _noise_builder(layer.size, seed)
        edge = builder.neurons(builder.conv(0, layer.channels, 1, EDGE_BITS), rate)
        if with_layer:
            edge = builder.neurons(builder.conv(edge, layer.outputs, layer.kernel, bits), RATE)
        edge = builder.or_pool(edge, layer.size)  # one pixel is left for the readout
        graphs.append(builder.finish(edge, {"weight_bits": bits}))
    return graphs[0], graphs[1]


def attention(channels: int, heads: int, size: int, rate: float, seed: int = 0) -> tuple[ir.Graph, ir.Graph]:
    """The same for attention between spikes of three fronts, on size x size tokens."""
    graphs = []
    for with_attention in (True, False):
        builder = _noise_builder(size, seed)
        query, key, value = (builder.neurons(builder.conv(0, channels, 1, EDGE_BITS), rate) for _ in range(3))
        if with_attention:
            edge = builder.neurons(builder.attention(query, key, value, heads), RATE)
            edges = [builder.or_pool(edge, size)]
        else:
            edges = [builder.or_pool(edge, size) for edge in (query, key, value)]
            edges = [builder.add(builder.add(edges[0], edges[1]), edges[2])]
        graphs.append(builder.finish(edges[0], {}))
    return graphs[0], graphs[1]


def smooth_images(shape: Sequence[int], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """u8 images (count, C, H, W) with the low frequencies of photographs; pure noise would average out."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.float64)
    for _ in range(3):
        images = sum(np.roll(images, s, a) for s, a in ((0, 2), (1, 2), (-1, 2), (1, 3))) / 4
    low, high = images.min(), images.max()
    return ((images - low) / (high - low) * 255).round().astype(np.uint8)


def noise_frames(size: int, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """u8 frames (count, T, C, H, W) for the front of ``one_layer`` and ``attention``."""
    shape = (count, TIME_STEPS, FRONT_CHANNELS, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def _noise_builder(size: int, seed: int) -> Builder:
    return Builder(noise_frames(size, CALIBRATION_SAMPLES, seed + 1), TIME_STEPS, TIME_STEPS, seed)


class Builder:
    """A graph that grows node by node together with the values that samples give on its edges, (T, N, C, H, W)."""

    def __init__(self, samples: NDArray[np.uint8], time_steps: int, frames: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.time_steps = time_steps
        channels, height, width = samples.shape[-3:]
        axes = tuple(a for a in range(samples.ndim) if a != samples.ndim - 3)
        node = ir.Input(channels, height, width, frames, tuple(int(m) for m in samples.mean(axes)))
        values = samples.astype(np.int64) - np.asarray(node.zero_point)[:, None, None]
        steps = np.broadcast_to(values, (time_steps, *values.shape)) if frames == 1 else np.moveaxis(values, 1, 0)
        self.nodes: list[ir.Node] = [node]
        self.names = ["input"]
        self.values: list[NDArray[np.int64]] = [steps]
        self.rates = [math.nan]

    def conv(self, source: int, outputs: int, kernel: int, bits: int) -> int:
        weight = _weights(self.rng, (outputs, self.values[source].shape[2], kernel, kernel), bits)
        padding = kernel // 2
        values = _convolve(self.values[source], weight, padding)
        return self._add(ir.Conv(source, weight, bits, padding=padding), "conv", values)

    def attention(self, query: int, key: int, value: int, heads: int) -> int:
        q, k, v = (self._tokens(edge, heads) for edge in (query, key, value))
        values = ((v @ np.swapaxes(k, -1, -2)) @ q).reshape(self.values[query].shape)
        return self._add(ir.Attention(query, key, value, heads), "attention", np.rint(values).astype(np.int64))

    def neurons(self, source: int, rate: float) -> int:
        """Neurons that fire at ``rate``: the bias removes the mean of the current, as batch norm does, thresholds are
        that quantile of each channel, all scaled alike until the mean over channels and steps fits. 4-bit membranes."""
        current = self.values[source]
        bias = -np.rint(current.mean((0, 1, 3, 4))).astype(np.int32)
        reach = np.maximum(np.quantile(current[0] + bias[:, None, None], 1 - rate, (0, 2, 3)), 1)
        ones = np.ones((1, len(bias)), np.int32)
        low, high = 0.25, 4.0
        for _ in range(9):
            middle = math.sqrt(low * high)
            threshold = np.ceil(reach * middle).astype(np.int32)
            shift = np.maximum(np.ceil(np.log2(threshold / 7)), 0).astype(np.uint8)
            node = ir.Lif((source,), ones, bias, threshold, shift, membrane_bits=4, leak_shift=1)
            spikes = reference.lif(current, node)
            low, high = (middle, high) if spikes.mean() > rate else (low, middle)
        return self._add(node, "lif", spikes, float(spikes.mean()))

    def or_pool(self, source: int, kernel: int) -> int:
        t, n, c, h, w = self.values[source].shape
        values = self.values[source].reshape(t, n, c, h // kernel, kernel, w // kernel, kernel).max((4, 6))
        return self._add(ir.OrPool(source, kernel, kernel), "pool", values, float(values.mean()))

    def add(self, left: int, right: int) -> int:
        return self._add(ir.Add(left, right), "add", self.values[left] + self.values[right])

    def finish(self, source: int, meta: dict[str, object]) -> ir.Graph:
        weight = _weights(self.rng, (CLASSES, self.values[source].shape[2]), EDGE_BITS)
        nodes = [*self.nodes, ir.Readout(source, weight, np.zeros(CLASSES, np.int32), EDGE_BITS, True)]
        return ir.Graph(self.time_steps, nodes, [*self.names, "readout"], [*self.rates, math.nan], dict(meta))

    def _add(self, node: ir.Node, name: str, values: NDArray[np.int64], rate: float = math.nan) -> int:
        self.nodes.append(node)
        self.names.append(f"{name}{len(self.names)}")
        self.values.append(values)
        self.rates.append(rate)
        return len(self.nodes) - 1

    def _tokens(self, edge: int, heads: int) -> NDArray[np.float64]:
        t, n, c, h, w = self.values[edge].shape
        return self.values[edge].reshape(t, n, heads, c // heads, h * w).astype(np.float64)


def _weights(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> NDArray[np.int8]:
    if bits == 1:
        return rng.choice([-1, 1], shape).astype(np.int8)
    limit = 2 ** (bits - 1) - 1
    return np.clip(np.rint(rng.normal(0, limit / 2.5, shape)), -limit, limit).astype(np.int8)


def _convolve(values: NDArray[np.int64], weight: NDArray[np.int8], padding: int) -> NDArray[np.int64]:
    """Exact: every sum of these integers is far below 2^53."""
    flat = torch.from_numpy(values.reshape(-1, *values.shape[2:]).astype(np.float64))
    out = F.conv2d(flat, torch.from_numpy(weight).double(), padding=padding).numpy()
    return np.rint(out).astype(np.int64).reshape(*values.shape[:2], *out.shape[1:])
