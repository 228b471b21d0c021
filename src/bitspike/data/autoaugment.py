"""AutoAugment for CIFAR-10 (Cubuk et al., CVPR 2019): one of 25 learned pairs of operations per image.

Levels 0 to 9 divide each operation's range evenly. Geometric operations map pixels to their nearest
neighbour, about the top left corner for shears and the centre for rotations, and uncover the data set's
zero point. Translations reach 150/331 of the side, the paper's range at its ImageNet size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bitspike.data.draws import below, uniform
from bitspike.data.spec import DataSpec

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["POLICY", "WORDS_PER_IMAGE", "autoaugment_cifar10"]

WORDS_PER_IMAGE = 5  # which pair; whether and in which direction, for each of the two
_LEVELS = 9


class _Step(NamedTuple):
    """One operation, its probability and its level."""

    operation: str
    probability: float
    level: int = 0


class _Operation(NamedTuple):
    """(image, value, fill colour) -> image; value runs from `low` to `high` over the levels."""

    apply: Callable[[Image, float, tuple[int, ...]], Image]
    low: float = 0.0
    high: float = 0.0
    signed: bool = False  # the value is negated for half of the images


def _affine(image: Image, matrix: tuple[float, ...], fill: tuple[int, ...]) -> Image:
    from PIL import Image as pil

    return image.transform(image.size, pil.Transform.AFFINE, matrix, fillcolor=fill)


def _enhancer(name: str) -> Callable[[Image, float, tuple[int, ...]], Image]:
    def apply(image: Image, value: float, fill: tuple[int, ...]) -> Image:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, name)(image).enhance(1 + value)

    return apply


def _point(name: str, convert: Callable[[float], tuple[int, ...]] = lambda _: ()) -> Callable[..., Image]:
    def apply(image: Image, value: float, fill: tuple[int, ...]) -> Image:
        from PIL import ImageOps

        return getattr(ImageOps, name)(image, *convert(value))

    return apply


_REACH = 150 / 331
_OPERATIONS: dict[str, _Operation] = {
    "autocontrast": _Operation(_point("autocontrast")),
    "brightness": _Operation(_enhancer("Brightness"), 0, 0.9, signed=True),
    "color": _Operation(_enhancer("Color"), 0, 0.9, signed=True),
    "contrast": _Operation(_enhancer("Contrast"), 0, 0.9, signed=True),
    "equalize": _Operation(_point("equalize")),
    "invert": _Operation(_point("invert")),
    "posterize": _Operation(_point("posterize", lambda bits: (round(bits),)), 8, 4),
    "rotate": _Operation(lambda image, v, fill: image.rotate(v, fillcolor=fill), 0, 30, signed=True),
    "sharpness": _Operation(_enhancer("Sharpness"), 0, 0.9, signed=True),
    "shear-y": _Operation(lambda image, v, fill: _affine(image, (1, 0, 0, v, 1, 0), fill), 0, 0.3, signed=True),
    "solarize": _Operation(_point("solarize", lambda threshold: (round(threshold),)), 256, 0),
    "translate-x": _Operation(
        lambda image, v, fill: _affine(image, (1, 0, v * image.width, 0, 1, 0), fill), 0, _REACH, signed=True
    ),
    "translate-y": _Operation(
        lambda image, v, fill: _affine(image, (1, 0, 0, 0, 1, v * image.height), fill), 0, _REACH, signed=True
    ),
}

# The published table (appendix of the paper), sub-policies 0 to 24.
POLICY: tuple[tuple[_Step, _Step], ...] = (
    (_Step("invert", 0.1), _Step("contrast", 0.2, 6)),
    (_Step("rotate", 0.7, 2), _Step("translate-x", 0.3, 9)),
    (_Step("sharpness", 0.8, 1), _Step("sharpness", 0.9, 3)),
    (_Step("shear-y", 0.5, 8), _Step("translate-y", 0.7, 9)),
    (_Step("autocontrast", 0.5), _Step("equalize", 0.9)),
    (_Step("shear-y", 0.2, 7), _Step("posterize", 0.3, 7)),
    (_Step("color", 0.4, 3), _Step("brightness", 0.6, 7)),
    (_Step("sharpness", 0.3, 9), _Step("brightness", 0.7, 9)),
    (_Step("equalize", 0.6), _Step("equalize", 0.5)),
    (_Step("contrast", 0.6, 7), _Step("sharpness", 0.6, 5)),
    (_Step("color", 0.7, 7), _Step("translate-x", 0.5, 8)),
    (_Step("equalize", 0.3), _Step("autocontrast", 0.4)),
    (_Step("translate-y", 0.4, 3), _Step("sharpness", 0.2, 6)),
    (_Step("brightness", 0.9, 6), _Step("color", 0.2, 8)),
    (_Step("solarize", 0.5, 2), _Step("invert", 0.0)),
    (_Step("equalize", 0.2), _Step("autocontrast", 0.6)),
    (_Step("equalize", 0.2), _Step("equalize", 0.6)),
    (_Step("color", 0.9, 9), _Step("equalize", 0.6)),
    (_Step("autocontrast", 0.8), _Step("solarize", 0.2, 8)),
    (_Step("brightness", 0.1, 3), _Step("color", 0.7, 0)),
    (_Step("solarize", 0.4, 5), _Step("autocontrast", 0.9)),
    (_Step("translate-y", 0.9, 9), _Step("translate-y", 0.7, 9)),
    (_Step("autocontrast", 0.9), _Step("solarize", 0.8, 3)),
    (_Step("equalize", 0.8), _Step("invert", 0.1)),
    (_Step("translate-y", 0.7, 9), _Step("autocontrast", 0.9)),
)


def autoaugment_cifar10(batch: np.ndarray, raw: np.ndarray, spec: DataSpec) -> np.ndarray:
    """Apply one sub-policy to each image of uint8 (B, 3, H, W); `raw` is uint64 (B, 5), its random words."""
    from PIL import Image as pil

    pair = below(raw[:, 0], len(POLICY))
    chance = uniform(raw[:, 1:3])
    negative = below(raw[:, 3:5], 2) == 1
    result = batch.copy()
    for i, choice in enumerate(pair):
        steps = [
            (_OPERATIONS[step.operation], step.level, negative[i, k])
            for k, step in enumerate(POLICY[choice])
            if chance[i, k] < step.probability
        ]
        if not steps:
            continue
        image = pil.fromarray(np.ascontiguousarray(batch[i].transpose(1, 2, 0)))
        for operation, level, negate in steps:
            value = operation.low + (operation.high - operation.low) * level / _LEVELS
            image = operation.apply(image, -value if operation.signed and negate else value, spec.zero_point)
        result[i] = np.asarray(image).transpose(2, 0, 1)
    return result
