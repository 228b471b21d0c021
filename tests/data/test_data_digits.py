from __future__ import annotations

import numpy as np
import pytest

from bitspike.data import DataError, load
from bitspike.data.partition import stratified_holdout


def rows(x: np.ndarray) -> list[bytes]:
    return [sample.tobytes() for sample in x]


def test_digits_counts_and_format() -> None:
    data = load("digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (1293, 144, 360)
    assert data.spec.sample_shape == (1, 8, 8)
    assert set(np.unique(data.train.inputs)) == {15 * v for v in range(17)}
    counts = np.bincount(data.test.labels)
    assert counts.min() >= 35 and counts.max() <= 37
    # Every scikit-learn image is in exactly one split.
    from sklearn.datasets import load_digits

    everything = sorted(rows((load_digits().images[:, None] * 15).astype(np.uint8)))
    assert sorted(rows(np.concatenate([s.inputs for s in (data.train, data.validation, data.test)]))) == everything


def test_digits_constants_are_those_of_the_training_images() -> None:
    data = load("digits", validation_fraction=0)
    assert len(data.validation) == 0 and len(data.train) == 1437
    pixels = data.train.inputs / 255
    assert data.spec.zero_point == (round(255 * pixels.mean()),)
    assert data.spec.scale == pytest.approx(1 / (255 * pixels.std()), rel=2e-4)


def test_seed_moves_validation_but_never_test() -> None:
    np.random.seed(5)
    first = load("digits", seed=1)
    np.random.seed(6)
    again, other = load("digits", seed=1), load("digits", seed=2)
    np.testing.assert_array_equal(first.validation.inputs, again.validation.inputs)
    assert not np.array_equal(first.validation.inputs, other.validation.inputs)
    np.testing.assert_array_equal(first.test.inputs, other.test.inputs)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.29, 0.5, 0.999])
@pytest.mark.parametrize("counts", [(30, 30, 30), (100, 7, 1), (1, 1, 1)], ids=str)
def test_holdout_is_stratified_disjoint_and_complete(fraction: float, counts: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    kept, held = stratified_holdout(labels, fraction, seed=3)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert len(held) == min(round(len(labels) * fraction), len(labels) - 1)
    share = np.bincount(labels[held], minlength=len(counts))
    assert (np.abs(share - np.array(counts) * fraction) < 1).all()


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1, float("nan"), "0.1", True])
def test_holdout_refuses_fraction(fraction: object) -> None:
    with pytest.raises(DataError, match=r"validation_fraction is .*; accepted: 0 <= fraction < 1"):
        load("digits", validation_fraction=fraction)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True, 2**64])
def test_refuses_seed(seed: object) -> None:
    with pytest.raises(DataError, match="seed"):
        load("digits", seed=seed)  # type: ignore[arg-type]


def test_order_is_pinned() -> None:
    # These words must never change: runs are compared across versions of numpy and of this package.
    from bitspike.data.draws import below, permutation, uniform, words

    assert permutation(7, "epoch-order", 3, 8).tolist() == PINNED
    raw = words(0, "x", 0, (100_000,))
    assert (words(0, "x", 0, (10,)) == raw[:10]).all()
    assert not np.isin(words(0, "x", 1, (1000,)), raw).any() and not np.isin(words(0, "y", 0, (1000,)), raw).any()
    assert np.abs(np.bincount(below(raw, 9)) / len(raw) - 1 / 9).max() < 0.005
    assert uniform(raw).min() >= 0 and uniform(raw).max() < 1 and abs(uniform(raw).mean() - 0.5) < 0.005


PINNED = [7, 3, 1, 2, 0, 4, 6, 5]
