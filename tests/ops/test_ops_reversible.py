"""Chains that run backwards: the recurrence by hand, its inverse, and the grid on which neither rounds."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike.errors import ConfigError
from bitspike.ops import FixedPoint, average_chain, unwound_chain


def branches(n: int, dtype: torch.dtype = torch.float64) -> list:
    weights = [torch.randn(7, 7, dtype=dtype, generator=torch.Generator().manual_seed(i)) / 4 for i in range(n)]
    return [lambda s, w=w: torch.tanh(s.to(dtype) @ w) for w in weights]


def start(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    older, newer = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(9)).to(dtype)
    return older, newer


def test_chain_equals_the_recurrence() -> None:
    """x2 = F(x1) + (x0 + x1) / 2, x3 = G(x2) + (x1 + x2) / 2, and so on."""
    (f, g, h), (x0, x1) = branches(3), start()
    x2 = f(x1) + (x0 + x1) / 2
    x3 = g(x2) + (x1 + x2) / 2
    x4 = h(x3) + (x2 + x3) / 2
    for ours, expected in zip(average_chain([f, g, h], x0, x1), (x3, x4), strict=True):
        close(ours, expected)


def test_without_branches_states_are_running_means() -> None:
    x0, x1 = start()
    x2 = (x0 + x1) / 2
    older, newer = average_chain([torch.zeros_like, torch.zeros_like], x0, x1)
    assert torch.equal(older, x2) and torch.equal(newer, (x1 + x2) / 2)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_unwinding_gives_the_start_back_up_to_rounding(n: int) -> None:
    x0, x1 = start()
    found = unwound_chain(branches(n), *average_chain(branches(n), x0, x1))
    for one, other in zip(found, (x0, x1), strict=True):
        close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 8, 16, 26])
def test_fixed_point_gives_every_bit_back(n: int, dtype: torch.dtype) -> None:
    """In floating point the errors of the same chain double at every branch."""
    fixed = FixedPoint.of_chain(n)
    chain = [lambda s, b=b: fixed(b(s)) for b in branches(n, dtype)]
    x0, x1 = map(fixed, start(dtype))
    found = unwound_chain(chain, *average_chain(chain, x0, x1))
    assert torch.equal(found[0], x0) and torch.equal(found[1], x1)
    if n > 8:
        plain = unwound_chain(branches(n), *average_chain(branches(n), *start()))
        assert (plain[0] - start()[0]).abs().max() > 2**n * 1e-18


@pytest.mark.parametrize("n", [1, 8, 26])
def test_fixed_point_rounds_to_the_grid_and_passes_gradients_on(n: int) -> None:
    fixed = FixedPoint.of_chain(n)
    x = torch.randn(5, 7, requires_grad=True)
    y = fixed(x)
    steps = y.detach() * 2.0 ** (42 - n)
    assert y.dtype == torch.float64 and torch.equal(steps, steps.round())
    assert (y - x).abs().max() <= 2.0 ** (n - 43)
    y.backward(torch.full((5, 7), 3.0, dtype=torch.float64))
    assert torch.equal(x.grad, torch.full((5, 7), 3.0))


def test_long_chains_are_refused() -> None:
    with pytest.raises(ConfigError, match="has 27 branches, accepted: up to 26"):
        FixedPoint.of_chain(27)
