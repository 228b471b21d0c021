"""QP-SNN's networks, pruned by its ratios: parameter counts and all 39 printed sizes (arXiv 2502.05905, table 1)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bitspike.compress import QPSNN, apply, channel_groups, published_ratios, remove_channels
from bitspike.compress.published import PUBLISHED_RATIOS
from bitspike.errors import ConfigError
from bitspike.measure import model_size
from bitspike.models import create_model

SHAPES = {"vgg16": (3, 32, 32), "resnet20": (3, 32, 32), "vggsnn": (2, 48, 48), "tinyimagenet": (3, 64, 64)}

# ratios, classes -> parameters in millions, MB at 8, 4 and 2 bits
PUBLISHED = {
    ("resnet20-A", 10): (6.22, 6.27, 3.16, 1.61),
    ("resnet20-B", 10): (3.87, 3.92, 1.98, 1.02),
    ("vgg16-cifar10-4.25M", 10): (4.25, 4.28, 2.16, 1.10),
    ("vgg16-cifar10-1.42M", 10): (1.42, 1.45, 0.74, 0.39),
    ("resnet20-A", 100): (6.27, 6.45, 3.35, 1.79),
    ("resnet20-B", 100): (3.92, 4.10, 2.17, 1.20),
    ("vgg16-cifar100-2.31M", 100): (2.31, 2.48, 1.35, 0.79),
    ("vgg16-cifar100-1.68M", 100): (1.68, 1.85, 1.04, 0.63),
    ("vgg16-tinyimagenet-4.65M", 200): (4.65, 5.90, 3.78, 2.72),
    ("vgg16-tinyimagenet-3.43M", 200): (3.43, 4.67, 3.17, 2.41),
    ("vggsnn-1.46M", 10): (1.46, 1.61, 0.90, 0.55),
    ("vggsnn-0.9M", 10): (0.9, 1.05, 0.62, 0.41),
    ("vggsnn-0.25M", 10): (0.25, 0.40, 0.29, 0.24),
}
every_row = pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row[0]}-{row[1]}")


def pruned(ratios: str, classes: int) -> nn.Module:
    """The published network without values, cut down as published; which channels stay does not matter for sizes."""
    name, *data = ratios.split("-")
    shape = SHAPES[data[0] if data[0] in SHAPES else name]
    removed = published_ratios(ratios)
    with torch.device("meta"):
        model = create_model(name, num_classes=classes, input_shape=shape)
        counts = {g.name: int(g.size * (1 - removed.get(g.name, 0))) for g in channel_groups(model)}
        assert set(removed) <= set(counts)
        return remove_channels(model, {name: range(count) for name, count in counts.items()})


@every_row
def test_parameter_counts(row: tuple[str, int]) -> None:
    """The paper cuts some of its figures where it rounds others."""
    millions = sum(p.numel() for p in pruned(*row).parameters()) / 1e6
    assert abs(millions - PUBLISHED[row][0]) < 0.01


@every_row
@pytest.mark.parametrize("bits, column", [(8, 1), (4, 2), (2, 3)], ids=["8-bit", "4-bit", "2-bit"])
def test_sizes(row: tuple[str, int], bits: int, column: int) -> None:
    with torch.device("meta"):
        model = apply(pruned(*row), QPSNN(bits))
    assert f"{model_size(model).megabytes:.2f}" == f"{PUBLISHED[row][column]:.2f}"


@pytest.mark.parametrize("name, classes, megabytes", [("vgg16", 10, 58.88), ("resnet20", 100, 68.4)])
def test_full_precision_sizes(name: str, classes: int, megabytes: float) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=classes)
    assert model_size(model).megabytes == pytest.approx(megabytes, rel=1e-3)


def test_share_of_connections_kept() -> None:
    """The paper's 9.61 % of VGG-16 and 22.69 % of ResNet20: quantized weights kept, of all quantized weights."""

    def hidden(model: nn.Module) -> int:
        return sum(m.weight.numel() for m in [m for m in model.modules() if isinstance(m, nn.Conv2d)][1:])

    for ratios, classes, share in (("vgg16-cifar10-1.42M", 10, 0.0961), ("resnet20-B", 100, 0.2269)):
        with torch.device("meta"):
            whole = create_model(ratios.split("-")[0], num_classes=classes)
        assert hidden(pruned(ratios, classes)) / hidden(whole) == pytest.approx(share, abs=5e-4)


def test_every_published_setting_is_tested() -> None:
    assert {ratios for ratios, _ in PUBLISHED} == set(PUBLISHED_RATIOS)


def test_unknown_setting() -> None:
    with pytest.raises(ConfigError, match=r"ratios 'vgg11' are unknown, accepted: vgg16-cifar10-4.25M"):
        published_ratios("vgg11")
