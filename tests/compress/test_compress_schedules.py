"""Threshold schedules against the published closed forms and what they mean: steps of a LASSO solver."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from helpers import close
from torch import Tensor, nn

from bitspike.compress import SoftThresholdPruning, apply, threshold_driver
from bitspike.compress.schedules import SCHEDULES, lats_fractions, linear, pgh, s_lats, threshold_fractions
from bitspike.errors import ConfigError
from bitspike.ops import soft_threshold

EPOCHS = 100
PUBLISHED = {  # progress -> d / D of S-LATS, LATS per epoch (100 of them), PGH with beta 0.1 and 0.01
    0.0: (0, 0, 0, 0),
    0.10: (0.1984, 0.1966, 0.3178, 0.4363),
    0.25: (0.4751, 0.4718, 0.6522, 0.7847),
    0.50: (0.8183, 0.8151, 0.9218, 0.9701),
    0.75: (0.9751, 0.9739, 0.9931, 0.9983),
    0.90: (0.9984, 0.9981, None, None),
    1.0: (1, 1, 1, 1),
}


def cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def per_epoch_cosine(epochs: int, batches: int) -> list[float]:
    return [cosine(epoch / epochs) for epoch in range(epochs) for _ in range(batches)]


def closed_form(epoch: int, batch: int, epochs: int, batches: int) -> float:
    """LATS under a cosine that moves once per epoch, as released: base of the epoch and the way inside it."""
    base = 1 + 2 * epoch + math.sin(math.pi * (epoch - 0.5) / epochs) / math.sin(math.pi / (2 * epochs))
    inside = batch * (1 + math.cos(math.pi * epoch / epochs)) / (batches * (epochs + 1))
    return base / (2 * (epochs + 1)) + inside


RATES: dict[str, Sequence[float]] = {
    "cosine": [0.1 * cosine(n / 997) for n in range(997)],
    "epochs": per_epoch_cosine(12, 5),
    "warm-up": [0.3 * (n + 1) / 50 for n in range(50)] + [0.3 * cosine(n / 400) + 1e-4 for n in range(400)],
    "steps": [0.1] * 100 + [0.01] * 100 + [0.001] * 30,
    "one": [0.7],
}
BETA = {name: 0.03 if name == "pgh" else None for name in SCHEDULES}


@pytest.mark.parametrize("progress", PUBLISHED)
def test_published_values(progress: float) -> None:
    expected = PUBLISHED[progress]
    lats = lats_fractions(per_epoch_cosine(EPOCHS, 1))[round(EPOCHS * progress)]
    for value, reference in zip(
        (s_lats(progress), lats, pgh(progress, 0.1), pgh(progress, 0.01)), expected, strict=True
    ):
        assert reference is None or value == pytest.approx(reference, abs=5.1e-5)


@pytest.mark.parametrize("epochs, batches", [(100, 3), (7, 11), (1, 4)])
def test_lats_sum_equals_the_closed_form(epochs: int, batches: int) -> None:
    fractions = lats_fractions(per_epoch_cosine(epochs, batches))
    for step, value in enumerate(fractions[:-1]):
        assert value == pytest.approx(closed_form(step // batches, step % batches, epochs, batches), abs=1e-12)
    assert fractions[-1] == 1 == pytest.approx(closed_form(epochs, 0, epochs, batches))


@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
def test_lats_raises_the_threshold_in_proportion_to_the_learning_rate(rates: Sequence[float]) -> None:
    fractions = threshold_fractions("lats", rates)
    coefficient = [(b - a) / rate for a, b, rate in zip(fractions, fractions[1:], rates, strict=False) if rate > 1e-6]
    assert max(coefficient) / min(coefficient) - 1 < 1e-6


@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_rise_from_nothing_to_the_final_threshold(schedule: str, rates: Sequence[float]) -> None:
    fractions = threshold_fractions(schedule, rates, BETA[schedule])
    assert len(fractions) == len(rates) + 1 and fractions[-1] == 1
    assert fractions[0] == (1 if schedule == "constant" else pytest.approx(0, abs=1e-15))
    assert all(a <= b for a, b in pairwise(fractions))


@pytest.mark.parametrize("beta", [1e-200, 1e-6, 0.01, 0.5, 0.99])
def test_pgh_is_the_integral_of_its_coefficient(beta: float) -> None:
    nodes, weights = torch.linspace(0, 1, 20001, dtype=torch.float64), torch.full((20001,), 2.0, dtype=torch.float64)
    weights[1::2], weights[0], weights[-1] = 4.0, 1.0, 1.0  # Simpson
    density = [beta**p * (1 + math.cos(math.pi * p)) for p in nodes.tolist()]
    total = (weights * torch.tensor(density)).sum()
    half = slice(0, 10001)
    weights_half = weights[half].clone()
    weights_half[-1] = 1.0
    tolerance = 1e-3 if beta < 1e-100 else 1e-9  # the rule's, of a density that falls within a few nodes
    assert pgh(0.5, beta) == pytest.approx(
        ((weights_half * torch.tensor(density[half])).sum() / total).item(), rel=tolerance
    )


@pytest.mark.parametrize("progress", [n / 16 for n in range(17)])
def test_pgh_becomes_s_lats(progress: float) -> None:
    assert pgh(progress, 0.999) == pytest.approx(s_lats(progress), abs=1e-3)
    assert pgh(progress, 1 - 1e-9) == pytest.approx(s_lats(progress), abs=1e-7)
    assert pgh(progress, 0.01) >= pgh(progress, 0.1) >= s_lats(progress) >= linear(progress)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "schedule": (lambda: threshold_fractions("cosine", [0.1]), "schedule is 'cosine', accepted: lats, s-lats, pgh"),
    "no-beta": (lambda: threshold_fractions("pgh", [0.1]), "beta is None, accepted for schedule 'pgh': above 0"),
    "beta-0": (lambda: threshold_fractions("pgh", [0.1], 0.0), "beta is 0.0"),
    "beta-1": (lambda: threshold_fractions("pgh", [0.1], 1.0), "beta is 1.0"),
    "useless-beta": (
        lambda: threshold_fractions("lats", [0.1], 0.5),
        "beta is 0.5, accepted for schedule 'lats': none",
    ),
    "no-steps": (lambda: threshold_fractions("s-lats", []), "none, accepted: one or more"),
    "negative": (lambda: threshold_fractions("linear", [0.1, -0.2]), "-0.2, accepted: one or more, each 0 or more"),
    "nan": (lambda: threshold_fractions("linear", [math.nan]), "nan, accepted"),
    "all-zero": (lambda: threshold_fractions("lats", [0.0, 0.0]), "add up to 0, accepted: some above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_unusable_schedules_are_refused(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        call()


def test_a_step_is_a_proximal_gradient_step() -> None:
    """w' = S_{d' - d}(w - lr * g) for plain SGD, wherever the weight keeps its sign."""
    theta, target = torch.randn(500, dtype=torch.float64), torch.randn(500, dtype=torch.float64)
    d, risen, rate = 0.4, 0.43, 0.05
    leaf = theta.clone().requires_grad_()
    w = soft_threshold(leaf, d)
    (0.5 * (w - target) ** 2).sum().backward()
    after = soft_threshold(theta - rate * leaf.grad, risen)
    w = w.detach()
    same = (after.sign() == w.sign()) & (w != 0)
    assert same.sum() > 200
    close(after[same], soft_threshold(w - rate * (w - target), risen - d)[same])


def test_lats_solves_the_lasso_and_a_linear_threshold_does_not() -> None:
    """200 x 40 least squares, mu = 0.15, 4000 full-batch steps under a cosine learning rate from 0.5 / L."""
    mu, steps = 0.15, 4000
    A = torch.randn(200, 40, dtype=torch.float64) / 200**0.5
    truth = torch.zeros(40, dtype=torch.float64)
    truth[:8] = torch.tensor([2.0, -1.5, 2.5, 1.0, -3.0, 1.8, -2.2, 2.1])
    b = A @ truth + 0.01 * torch.randn(200, dtype=torch.float64)
    largest = torch.linalg.eigvalsh(A.T @ A)[-1].item()
    rates = [0.5 / largest * cosine(n / steps) for n in range(steps)]
    expected = lasso(A, b, mu, 1 / largest)

    found = {schedule: descend(A, b, rates, schedule, mu * sum(rates)) for schedule in ("lats", "linear")}
    dense = descend(A, b, rates[:400], "lats", 0.0)

    def objective(w: Tensor) -> float:
        return (0.5 * (A @ w - b).square().sum() + mu * w.abs().sum()).item()

    assert int((expected == 0).sum()) == 32
    assert torch.equal(found["lats"] == 0, expected == 0)
    assert (found["lats"] - expected).abs().max() < 1e-12
    assert (found["linear"] == 0).all() and objective(found["linear"]) > 3 * objective(expected)
    assert (dense != 0).all()


def lasso(A: Tensor, b: Tensor, mu: float, rate: float) -> Tensor:
    """Proximal gradient until nothing moves."""
    w = torch.zeros(A.shape[1], dtype=A.dtype)
    for _ in range(1500):
        w = soft_threshold(w - rate * (A.T @ (A @ w - b)), rate * mu)
    return w


def descend(A: Tensor, b: Tensor, rates: Sequence[float], schedule: str, final: float) -> Tensor:
    config = SoftThresholdPruning(final, schedule)
    model = apply(nn.Linear(A.shape[1], 1, bias=False).double(), config)
    advance = threshold_driver(config, rates)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (0.5 * (model(A)[:, 0] - b).square().sum()).backward()
        optimizer.step()
        advance(model, rate)
    return model.weight.detach().flatten()
