"""Plain networks: 3x3 convolutions, batch norm and LIF neurons with pooling in between.

The published event-camera network (48x48x2; Q-SNN, QP-SNN) is ``vggsnn`` with its defaults, the CIFAR network of QP-SNN
(arXiv 2502.05905) is ``vgg16``. ``widths`` makes others: numbers are layers, letters 2x2 poolings, "M" of the maximum,
"A" of the average and "P" of the model's ``pool``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..layers import AvgPool, ConvBN, MaxPool, Readout, SpikingUnit
from ..neurons import LIF, Neuron
from .registry import register_model

__all__ = ["VGGSNN", "vgg16", "vggsnn"]

POOLS: dict[str, Callable[[], nn.Module]] = {"max": lambda: MaxPool(2), "avg": lambda: AvgPool(2)}
FIXED_POOLS = {"M": "max", "A": "avg"}
LETTERS = ("P", *FIXED_POOLS)
VGGSNN_WIDTHS = (64, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "A")
VGG16_WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "A")


class VGGSNN(nn.Module):
    """Samples (N, C, H, W) or frames (T, N, C, H, W), u8 values, to logits (T, N, classes)."""

    def __init__(
        self,
        encoding: DirectEncoding,
        input_shape: tuple[int, int, int],
        widths: Sequence[int | str],
        num_classes: int,
        neuron: Callable[[], Neuron],
        pool: str,
        global_pool: bool,
        input_bias: bool,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for entry in widths:
            if entry in LETTERS:
                layers.append(POOLS[FIXED_POOLS.get(str(entry), pool)]())
                height, width = height // 2, width // 2
            else:
                layers.append(SpikingUnit(neuron(), ConvBN(channels, int(entry), 3, bias=input_bias and not layers)))
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
    widths: Sequence[int | str] = VGGSNN_WIDTHS,
    pool: str = "max",
    global_pool: bool = False,
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: Callable[[], Neuron] = LIF,
) -> VGGSNN:
    """VGGSNN of any widths and depth.

    input_shape: (C, H, W); ``zero_point`` (C u8 values, default 0) and ``input_scale`` normalise its bytes.
    pool: "max" (QP-SNN's network) or "avg" (Q-SNN's); global_pool: average the pixels before the classifier.
    Raises ConfigError for widths or a pool that make no network.
    """
    if pool not in POOLS:
        raise ConfigError(f"pool is {pool!r}, accepted: {', '.join(POOLS)}")
    return _build(num_classes, T, input_shape, widths, pool, global_pool, zero_point, input_scale, neuron, False)


@register_model
def vgg16(
    num_classes: int = 10,
    T: int = 4,
    input_shape: Sequence[int] = (3, 32, 32),
    widths: Sequence[int | str] = VGG16_WIDTHS,
    zero_point: Sequence[int] | None = None,
    input_scale: float = 1 / 255,
    neuron: Callable[[], Neuron] = LIF,
) -> VGGSNN:
    """VGG-16 for 32x32 (CIFAR) and 64x64 images (TinyImageNet): 13 convolutions, the first with a bias, one classifier.

    The arguments mean what they do in :func:`vggsnn`.
    """
    return _build(num_classes, T, input_shape, widths, "max", False, zero_point, input_scale, neuron, True)


def _build(
    num_classes: int,
    T: int,
    input_shape: Sequence[int],
    widths: Sequence[int | str],
    pool: str,
    global_pool: bool,
    zero_point: Sequence[int] | None,
    input_scale: float,
    neuron: Callable[[], Neuron],
    input_bias: bool,
) -> VGGSNN:
    bad = [w for w in widths if w not in LETTERS and not (isinstance(w, int) and w > 0)]
    if bad or not widths or widths[0] in LETTERS:
        letters = ", ".join(map(repr, LETTERS))
        raise ConfigError(
            f"widths {tuple(widths)}: accepted are positive numbers and {letters}, beginning with a number"
        )
    shape = _shape(input_shape)
    if zero_point and len(zero_point) != shape[0]:
        raise ConfigError(f"zero_point is {tuple(zero_point)}, accepted: one value for each of {shape[0]} channels")
    encoding = DirectEncoding(T, zero_point or [0] * shape[0], input_scale)
    return VGGSNN(encoding, shape, widths, num_classes, neuron, pool, global_pool, input_bias)


def _shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigError(f"input_shape is {tuple(input_shape)}, accepted: (channels, height, width)")
    channels, height, width = input_shape
    return channels, height, width
