"""The 1-bit 4-384 BESTformer (arXiv 2501.05904) for 32 x 32 images as a graph: random weights, firing rates of trained ones.

Tokenizer of five 3x3 convolutions to 8 x 8 tokens of 384 channels; four blocks of two streams: attention whose map is
binary, key^T query through neurons and then value times the map, and an MLP of 1536 channels; the mean of both heads.
"""

from __future__ import annotations

import numpy as np
from networks import EDGE_BITS, TIME_STEPS, Builder, smooth_images

from bitspike.deploy import ir
from bitspike.deploy.reference_stream import run_stream_node

SHAPE = (3, 32, 32)
DIM, DEPTH, HEADS, RATIO = 384, 4, 8, 4
RATE = 0.15
STREAM_BITS, UNIT, SHIFT = 12, 128, 5  # a stream's 1.0, and bits that a sum has more


class TransformerBuilder(Builder):
    """Adds streams and products of spike matrices."""

    def node(self, node: ir.StreamNode, name: str) -> int:
        return self._add(node, name, run_stream_node(node, self.values))

    def spread_pool(self, source: int) -> int:
        """3 x 3 windows, two pixels apart."""
        values = self.values[source]
        padded = np.pad(values, ((0, 0),) * 3 + ((1, 1),) * 2)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (-2, -1))[..., ::2, ::2, :, :]
        pooled = np.asarray(windows.max((-2, -1)))
        return self._add(ir.OrPool(source, 3, 2, 1), "pool", pooled, float(pooled.mean()))

    def stream(self, current: int, *shortcuts: int) -> int:
        """The current, normalised as a batch norm does, plus the mean of the shortcuts."""
        values = self.values[current]
        mean, deviation = values.mean((0, 1, 3, 4)), values.std((0, 1, 3, 4)) + 1e-9
        gain = np.maximum(np.rint((UNIT << SHIFT) / deviation / 2), 1).astype(np.int32)
        halves = [np.full(DIM, (1 << SHIFT) // len(shortcuts), np.int32) for _ in shortcuts]
        multiplier = np.stack([gain, *halves])[:, None]
        bias = -np.rint(gain * mean).astype(np.int32)
        node = ir.Stream((current, *shortcuts), multiplier, bias, np.full(DIM, SHIFT, np.uint8), STREAM_BITS)
        return self.node(node, "stream")

    def attention_block(self, x: int, bits: int, rate: float) -> int:
        """The current that a block adds to stream ``x``."""
        entry = self.neurons(x, rate)
        query, key, value = (self.neurons(self.conv(entry, DIM, 1, bits), rate) for _ in range(3))
        scores = self.neurons(self.node(ir.MatMul(key, query, HEADS, "left"), "scores"), rate)
        mixed = self.neurons(self.node(ir.MatMul(value, scores, HEADS), "mixed"), rate)
        return self.conv(mixed, DIM, 1, bits)

    def mlp(self, x: int, bits: int, rate: float) -> int:
        hidden = self.neurons(self.conv(self.neurons(x, rate), RATIO * DIM, 1, bits), rate)
        return self.conv(hidden, DIM, 1, bits)


def transformer(bits: int = 1, rate: float = RATE, depth: int = DEPTH, seed: int = 0) -> ir.Graph:
    """The network with ``bits``-bit weights whose neurons all fire at ``rate``; first and last layer have 8 bits."""
    builder = TransformerBuilder(smooth_images(SHAPE, 1, seed + 1), TIME_STEPS, 1, seed)
    edge = 0
    for outputs, pooled in ((DIM // 8, False), (DIM // 4, False), (DIM // 2, True), (DIM, True)):
        edge = builder.neurons(builder.conv(edge, outputs, 3, bits if edge else EDGE_BITS), rate)
        edge = builder.spread_pool(edge) if pooled else edge
    older = newer = builder.stream(builder.conv(edge, DIM, 3, bits))
    for block in range(depth):
        shortcuts = (newer,) if block == 0 else (older, newer)
        middle = builder.stream(builder.attention_block(newer, bits, rate), *shortcuts)
        older, newer = middle, builder.stream(builder.mlp(middle, bits, rate), newer, middle)
    both = builder.node(ir.Concat((older, newer)), "both")
    means = builder.node(ir.Reduce(both, 1, "tokens"), "sums")
    ones, zeros = np.ones((1, 1, 2 * DIM), np.int32), np.zeros(2 * DIM, np.int32)
    features = builder.node(ir.Stream((means,), ones, zeros, np.full(2 * DIM, 6, np.uint8), STREAM_BITS), "means")
    return builder.finish(features, {"network": f"bestformer-{depth}-{DIM}", "weight_bits": bits, "rate": rate})
