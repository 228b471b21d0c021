"""One thread and one seed for every test; trained networks that several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")  # GPU kernels run in Triton's interpreter; 0 runs their tests on a GPU
import pytest
import torch
from helpers import digits_net, subset
from torch import nn

from bitspike.compress import QSNN, apply, set_training_progress
from bitspike.data import DataBundle, load
from bitspike.learn import TrainConfig, Trainer

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    yield
    assert torch.get_default_dtype() == default, "a test left another default dtype behind"


@pytest.fixture(scope="session")
def digits() -> DataBundle:
    return load("digits")


@pytest.fixture(scope="session")
def few_digits(digits: DataBundle) -> DataBundle:
    """96 training, 24 validation and 24 test digits."""
    return subset(digits, 96, 24)


@pytest.fixture(scope="session")
def trained_qsnn(digits: DataBundle) -> nn.Module:
    """A Q-SNN digits classifier (4-bit dynamic membranes) trained for a few epochs. Copy before changing it."""
    torch.manual_seed(0)
    model = apply(digits_net(digits.spec, widths=(8, 16, "P", 16), T=3), QSNN(membrane_bits=4))
    config = TrainConfig(epochs=6, batch_size=32, learning_rate=0.1)
    Trainer(config, on_epoch=set_training_progress, seed=0).fit(model, digits)
    return model.eval()
