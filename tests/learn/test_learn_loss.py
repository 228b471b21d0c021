from __future__ import annotations

import math

import pytest
import torch
from helpers import close
from torch import Tensor
from torch.nn import functional as F

from bitspike.errors import ConfigError
from bitspike.learn import (
    MeanLogits,
    SpikeRegulation,
    mean_logit_cross_entropy,
    spike_regulation,
    time_mean_cross_entropy,
)
from bitspike.learn.mixup import mixup
from bitspike.neurons import FiringRate


def rates(*values: float) -> list[FiringRate]:
    return [FiringRate(f"layer{i}", torch.tensor(v, dtype=torch.float64)) for i, v in enumerate(values)]


def by_hand(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over steps and samples of -log softmax at the label, one number at a time."""
    total = 0.0
    for step in logits.tolist():
        for row, label in zip(step, labels.tolist(), strict=True):
            total += math.log(sum(math.exp(v) for v in row)) - row[label]
    return torch.tensor(total / logits.shape[0] / logits.shape[1], dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 3])
def test_cross_entropy_is_the_mean_over_steps(steps: int) -> None:
    logits, labels = torch.randn(steps, 5, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    close(time_mean_cross_entropy(logits, labels), by_hand(logits, labels))
    hot = F.one_hot(labels, 4).double()
    close(time_mean_cross_entropy(logits, hot), by_hand(logits, labels))
    if steps > 1:
        assert abs(time_mean_cross_entropy(logits, labels) - F.cross_entropy(logits.mean(0), labels)) > 1e-3


def test_cross_entropy_of_mixed_targets_and_smoothing() -> None:
    logits, soft = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64).softmax(1)
    close(time_mean_cross_entropy(logits, soft), -(soft * logits.log_softmax(-1)).sum(-1).mean())
    labels = torch.tensor([1, 0, 2])
    smooth = 0.9 * F.one_hot(labels, 4).double() + 0.1 / 4
    close(time_mean_cross_entropy(logits, labels, 0.1), -(smooth * logits.log_softmax(-1)).sum(-1).mean())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_cross_entropy_is_computed_in_at_least_single_precision(dtype: torch.dtype) -> None:
    logits, labels = torch.randn(2, 3, 4).to(dtype), torch.tensor([1, 0, 2])
    loss = time_mean_cross_entropy(logits, labels)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(loss, by_hand(logits.double(), labels))


def test_mixed_targets_in_single_precision_fit_double_logits() -> None:
    logits, soft = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(3, 4).softmax(1)
    close(time_mean_cross_entropy(logits, soft), -(soft.double() * logits.log_softmax(-1)).sum(-1).mean())


def test_point_07_weight_zero_is_the_plain_loss() -> None:
    logits, labels = torch.randn(3, 5, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    assert torch.equal(
        SpikeRegulation(0.0)(logits, labels, rates(0.1, 0.2, 0.3)), time_mean_cross_entropy(logits, labels)
    )


def test_point_07_objective_adds_the_weighted_regulation() -> None:
    logits, labels, observed = (
        torch.randn(3, 5, 4, dtype=torch.float64),
        torch.tensor([0, 3, 1, 1, 2]),
        rates(0.9, 0.1, 0.3, 0.0),
    )
    expected = by_hand(logits, labels) + 0.7 * ((0.1 - 0.25) ** 2 + (0.3 - 0.25) ** 2) / 2
    close(SpikeRegulation(0.7, target_rate=0.25)(logits, labels, observed), expected)
    assert SpikeRegulation() == SpikeRegulation(5e-3, 0.5, 0.0), "the published weight and rate"


def test_point_07_regulation_is_zero_only_at_one_half() -> None:
    assert spike_regulation(rates(0.1, 0.5, 0.5, 0.9)) == 0
    assert spike_regulation(rates(0.5, 0.5, 0.5 + 1e-6, 0.5)) > 0


@pytest.mark.parametrize(
    "inner, expected", [((0.0, 0.0), 0.25), ((1.0, 1.0), 0.25), ((0.0, 0.5), 0.125), ((0.25,), 0.0625)], ids=str
)
def test_point_07_regulation_is_at_most_a_quarter(inner: tuple[float, ...], expected: float) -> None:
    assert spike_regulation(rates(0.3, *inner, 0.7)).item() == pytest.approx(expected)


def test_point_07_first_and_last_layer_do_not_count() -> None:
    assert spike_regulation(rates(0.0, 0.4, 1.0)) == spike_regulation(rates(1.0, 0.4, 0.0)) == pytest.approx(0.01)
    for few in ((), (0.1,), (0.1, 0.9)):
        assert spike_regulation(rates(*few)) == 0


def test_regulation_gradient_pulls_each_rate_to_the_target() -> None:
    values = [torch.tensor(v, requires_grad=True) for v in (0.9, 0.1, 0.8, 0.2)]
    spike_regulation([FiringRate("", v) for v in values], 0.5).backward()
    assert values[0].grad is None and values[3].grad is None
    assert [round(v.grad.item(), 6) for v in values[1:3]] == [-0.4, 0.3]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target_rate": 1.5}, "target_rate is 1.5, accepted: 0 to 1"),
        ({"target_rate": float("nan")}, "target_rate is nan"),
        ({"weight": -1.0}, "regulation weight is -1.0, accepted: 0 or more"),
        ({"weight": float("nan")}, "regulation weight is nan"),
    ],
    ids=["rate", "rate-nan", "weight", "weight-nan"],
)
def test_bad_regulation(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpikeRegulation(**options)


@pytest.mark.parametrize("frames", [False, True], ids=["images", "frames"])
def test_mixup_is_one_convex_combination(frames: bool) -> None:
    shape, axis = ((3, 5, 2, 4, 4), 1) if frames else ((5, 2, 4, 4), 0)
    inputs = torch.randint(0, 256, shape, dtype=torch.uint8)
    targets = torch.tensor([0, 1, 2, 3, 3])
    mixed, soft = mixup(inputs, targets, 4, 1.0, axis, (1, 2, 3))
    again = mixup(inputs, targets, 4, 1.0, axis, (1, 2, 3))
    assert torch.equal(mixed, again[0]) and not torch.equal(mixed, mixup(inputs, targets, 4, 1.0, axis, (1, 2, 4))[0])
    weight = soft[0, 0].item()
    assert 0 < weight < 1 and soft[0].tolist() == [weight, 0, 0, pytest.approx(1 - weight)]
    close(soft.sum(1), torch.ones(5))
    assert soft[4, 3].item() == pytest.approx(1), "neighbours of one class stay certain"
    for n in range(5):
        expected = weight * inputs.select(axis, n) + (1 - weight) * inputs.select(axis, n - 1)
        close(mixed.select(axis, n), expected.float(), scale=100)
    assert mixed.min() >= 0 and mixed.max() <= 255


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_the_mean_is_that_of_the_answer(smoothing: float) -> None:
    logits, labels = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True), torch.tensor([0, 3, 1, 1, 2])
    loss = MeanLogits(smoothing)(logits, labels, rates(0.1, 0.2))
    close(loss, F.cross_entropy(logits.mean(0), labels, label_smoothing=smoothing))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert all(torch.equal(step, gradient[0]) for step in gradient), "no step answers alone"
    assert mean_logit_cross_entropy(logits.detach().bfloat16(), labels).dtype == torch.float32
