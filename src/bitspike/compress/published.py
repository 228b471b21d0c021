"""Pruning ratios as published: which share of the channels of each group QP-SNN removes.

Source: "QP-SNN: Quantized and Pruned Spiking Neural Networks" (ICLR 2025, arXiv 2502.05905), tables 9 to 11. Where table
10 gives the second convolutions of stage 2 another ratio than their stage, the stage's is taken: only it gives the
published sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from ..models.vgg import LETTERS, VGG16_WIDTHS, VGGSNN_WIDTHS

__all__ = ["PUBLISHED_RATIOS", "published_ratios"]


def _plain(widths: Sequence[int | str], runs: Sequence[tuple[int, float]]) -> dict[str, float]:
    """Group name -> ratio of a plain network: ``runs`` of (convolutions, ratio), the rest unpruned."""
    names = [f"features.{i}" for i, entry in enumerate(widths) if entry not in LETTERS]
    return dict(zip(names, [ratio for count, ratio in runs for _ in range(count)], strict=False))


def _resnet20(stem: float, stages: float, middle: float) -> dict[str, float]:
    """Group name -> ratio of resnet20: stem; outputs of stages 1, 2 and the first middle; all other middle channels."""
    outputs = {"stages.0.second": stages, "stages.3.second": stages}
    middles = {f"stages.{block}.first": middle for block in range(1, 9)}
    return {"stem.0": stem, "stages.0.first": stages} | outputs | middles


# model and published setting -> group name -> share of its channels removed; groups not named stay whole
PUBLISHED_RATIOS: dict[str, dict[str, float]] = {
    "vgg16-cifar10-4.25M": _plain(VGG16_WIDTHS, [(7, 0.45), (5, 0.51)]),
    "vgg16-cifar10-1.42M": _plain(VGG16_WIDTHS, [(7, 0.49), (5, 0.80)]),
    "vgg16-cifar100-2.31M": _plain(VGG16_WIDTHS, [(7, 0.45), (5, 0.70)]),
    "vgg16-cifar100-1.68M": _plain(VGG16_WIDTHS, [(7, 0.45), (5, 0.78)]),
    "vgg16-tinyimagenet-4.65M": _plain(VGG16_WIDTHS, [(7, 0.45), (5, 0.51)]),
    "vgg16-tinyimagenet-3.43M": _plain(VGG16_WIDTHS, [(7, 0.45), (5, 0.62)]),
    "resnet20-A": _resnet20(0.1, 0.3, 0.6),
    "resnet20-B": _resnet20(0.1, 0.35, 0.75),
    "vggsnn-1.46M": _plain(VGGSNN_WIDTHS, [(3, 0.5), (4, 0.7)]),
    "vggsnn-0.9M": _plain(VGGSNN_WIDTHS, [(3, 0.5), (4, 0.8)]),
    "vggsnn-0.25M": _plain(VGGSNN_WIDTHS, [(3, 0.82), (4, 0.93)]),
}


def published_ratios(name: str) -> dict[str, float]:
    """The ratios of a published network, such as "resnet20-A", for :class:`Prune`. ConfigError for an unknown name."""
    if name not in PUBLISHED_RATIOS:
        raise ConfigError(f"published pruning ratios {name!r} are unknown, accepted: {', '.join(PUBLISHED_RATIOS)}")
    return dict(PUBLISHED_RATIOS[name])
