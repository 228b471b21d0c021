"""What every recipe begins with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bitspike import recipes
from bitspike.errors import ConfigError
from bitspike.recipes.setup import calibration_batches, load_data


def test_train_samples_are_a_fixed_stratified_draw() -> None:
    config = recipes.load_config("qp-snn", "digits")
    whole = load_data(config)
    few = [
        load_data(dataclasses.replace(config, data=dataclasses.replace(config.data, train_samples=101), seed=s))
        for s in (0, 1)
    ]
    assert len(few[0].train) == 101
    np.testing.assert_array_equal(few[0].train.inputs, few[1].train.inputs)
    counts = np.bincount(few[0].train.labels, minlength=10)
    assert counts.min() >= 9 and counts.max() <= 12
    assert len(few[0].validation) == len(whole.validation) and len(few[0].test) == len(whole.test)


@pytest.mark.parametrize("samples", [0, 10**6])
def test_train_samples_out_of_range(samples: int) -> None:
    config = recipes.load_config("qp-snn", "digits")
    with pytest.raises(ConfigError, match=f"train_samples is {samples}, accepted"):
        load_data(dataclasses.replace(config, data=dataclasses.replace(config.data, train_samples=samples)))


def test_calibration_batches_are_different_training_samples() -> None:
    train = load_data(recipes.load_config("qp-snn", "digits")).train
    batches = calibration_batches(train, 3, 16, seed=5)
    assert [tuple(b.shape) for b in batches] == [(16, 1, 8, 8)] * 3 and all(b.dtype == torch.uint8 for b in batches)
    assert not torch.equal(batches[0], batches[1])
    assert all(torch.equal(a, b) for a, b in zip(batches, calibration_batches(train, 3, 16, seed=5), strict=True))
    assert sum(len(b) for b in calibration_batches(train, 1000, 128, seed=5)) == len(train)
