"""VGGSNN: 3x3 convolutions, batch norm and LIF neurons with pooling in between.

The published event-camera network (Q-SNN card; 48x48x2) is ``vggsnn`` with its defaults; ``widths`` makes others:
numbers are layers, "P" is a 2x2 pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import AvgPool, ConvBN, MaxPool, Readout, SpikingUnit
from ..neurons import LIF, Neuron
from .registry import register_model

__all__ = ["VGGSNN", "vggsnn"]

POOLS: dict[str, Callable[[], nn.Module]] = {"max": lambda: MaxPool(2), "avg": lambda: AvgPool(2)}
PUBLISHED_WIDTHS = (64, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")


class VGGSNN(nn.Module):
    """Samples (N, C, H, W) or frames (T, N, C, H, W), u8 values, to logits (T, N, classes)."""

    def __init__(
        self,
        encoding: DirectEncoding,
        input_shape: tuple[int, int, int],
        widths: Sequence[int | str],
        num_classes: int,
        neuron: Callable[[], Neuron],
        pool: Callable[[], nn.Module],
        global_pool: bool,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for entry in widths:
            if entry == "P":
                layers.append(pool())
                height, width = height // 2, width // 2
            else:
                layers.append(SpikingUnit(neuron(), ConvBN(channels, int(entry), 3)))
                channels = int(entry)
        if min(height, width) < 1:
            raise ConfigError(f"widths {tuple(widths)} pool a {input_shape[1]}x{input_shape[2]} input down to nothing")
        self.features = nn.Sequential(*layers)
        self.readout = Readout(channels if global_pool else channels * height * width, num_classes, pool=global_pool)

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.features(self.encoding(samples)))
        return logits


@register_model
def vggsnn(
    num_classes: int = 10,
    T: int = 4,
    input_shape: Sequence[int] = (2, 48, 48),
    widths: Sequence[int | str] = PUBLISHED_WIDTHS,
    pool: str = "max",
    global_pool: bool = False,
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: Callable[[], Neuron] = LIF,
) -> VGGSNN:
    """VGGSNN of any widths and depth.

    input_shape: (C, H, W); ``zero_point`` (C u8 values, default 0) and ``input_scale`` normalise its bytes.
    pool: "max" or "avg" (the published event network uses "avg"); global_pool: average the pixels before the classifier.
    Raises ConfigError for widths or a pool that make no network.
    """
    if pool not in POOLS:
        raise ConfigError(f"pool is {pool!r}, accepted: {', '.join(POOLS)}")
    bad = [w for w in widths if w != "P" and not (isinstance(w, int) and w > 0)]
    if bad or not widths or widths[0] == "P":
        raise ConfigError(f"widths {tuple(widths)}: accepted are positive numbers and 'P', beginning with a number")
    shape = _shape(input_shape)
    if zero_point and len(zero_point) != shape[0]:
        raise ConfigError(f"zero_point is {tuple(zero_point)}, accepted: one value for each of {shape[0]} channels")
    encoding = DirectEncoding(T, zero_point or [0] * shape[0], input_scale)
    return VGGSNN(encoding, shape, widths, num_classes, neuron, POOLS[pool], global_pool)


def _shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigError(f"input_shape is {tuple(input_shape)}, accepted: (channels, height, width)")
    channels, height, width = input_shape
    return channels, height, width
