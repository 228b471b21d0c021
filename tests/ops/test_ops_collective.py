"""In one process the collectives change nothing; two processes are tested with the Trainer."""

from __future__ import annotations

import torch

from bitspike.ops import all_maximum, all_mean
from bitspike.ops.collective import is_shared


def test_one_process_is_not_shared() -> None:
    assert not is_shared()


def test_mean_is_the_identity_with_gradient() -> None:
    x = torch.randn(3, requires_grad=True)
    y = all_mean(x)
    assert torch.equal(y, x)
    (2 * y).sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 2.0))


def test_maximum_is_the_identity_without_gradient() -> None:
    x = torch.randn(3, requires_grad=True)
    y = all_maximum(x)
    assert torch.equal(y, x.detach()) and not y.requires_grad
