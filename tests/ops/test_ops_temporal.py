"""Linear maps over time against loops over single values, and the band against the full matrix."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike.ops import band_matrix, band_taps, causal_filter, mix_steps

SHAPES = [(1, 1), (1, 3, 5), (4, 2, 3), (7, 3, 5, 1), (5, 0, 3)]


def looped(current: Tensor, matrix: Tensor) -> Tensor:
    return torch.stack(
        [sum(matrix[t, j] * current[j] for j in range(len(current))) + 0 * current[t] for t in range(len(current))]
    )


def dyadic(*shape: int) -> Tensor:
    """Multiples of 1/8, whose short sums of products are exact in whatever order."""
    return torch.randint(-16, 17, shape) / 8


def gradients(function, *inputs: Tensor, upstream: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(function(*inputs), inputs, upstream)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mixing_steps_is_the_sum_over_all_steps(shape: tuple[int, ...]) -> None:
    current = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(shape[0], shape[0], dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(shape, dtype=torch.float64)
    close(mix_steps(current, matrix), looped(current, matrix))
    by_current, by_matrix = gradients(mix_steps, current, matrix, upstream=upstream)
    flat = upstream.flatten(1)
    close(by_current.flatten(1), matrix.T @ flat)
    close(by_matrix, flat @ current.detach().flatten(1).T)


def test_mixing_the_steps_of_one_value() -> None:
    current, matrix = torch.randn(5, dtype=torch.float64), torch.randn(5, 5, dtype=torch.float64)
    close(mix_steps(current, matrix), looped(current, matrix))


@pytest.mark.parametrize("order", [1, 2, 3, 8])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "per-step"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_filter_equals_the_product_with_its_band_matrix(shape: tuple[int, ...], shared: bool, order: int) -> None:
    """Outputs and both gradients, at lengths below and above the order."""
    T = shape[0]
    current = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(order, 1 if shared else T, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(shape, dtype=torch.float64)

    def product(x: Tensor, w: Tensor) -> Tensor:
        return mix_steps(x, band_matrix(w, T))

    close(causal_filter(current, taps), looped(current, band_matrix(taps, T)))
    pairs = zip(
        gradients(causal_filter, current, taps, upstream=upstream),
        gradients(product, current, taps, upstream=upstream),
        strict=True,
    )
    for fast, reference in pairs:
        close(fast, reference)


def test_filter_passes_the_numerical_gradient_check() -> None:
    current = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    past = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    for steps in (1, 3):
        taps = torch.randn(4, steps, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(causal_filter, (current, taps, past))


@pytest.mark.parametrize("order", [1, 3, 8])
@pytest.mark.parametrize("T", [1, 2, 7])
def test_filter_and_product_agree_exactly_where_sums_are_exact(T: int, order: int) -> None:
    current, taps = dyadic(T, 5, 3), dyadic(order, 1)
    assert torch.equal(causal_filter(current, taps), mix_steps(current, band_matrix(taps, T)))


@pytest.mark.parametrize("cut", range(1, 9))
def test_bits_do_not_depend_on_where_a_sequence_is_cut(cut: int) -> None:
    order = 4
    current, taps = torch.randn(9, 5, 7), torch.randn(order, 1)
    window = torch.cat([torch.zeros(order - 1, 5, 7), current])
    first = causal_filter(current[:cut], taps)
    rest = causal_filter(current[cut:], taps, window[cut : cut + order - 1])
    assert torch.equal(torch.cat([first, rest]), causal_filter(current, taps))


def test_bits_do_not_depend_on_the_number_of_neighbours() -> None:
    current, taps = torch.randn(6, 41), torch.randn(5, 1)
    whole = causal_filter(current, taps)
    assert all(torch.equal(causal_filter(current[:, :n], taps), whole[:, :n]) for n in (1, 3, 17))


@pytest.mark.parametrize("order", [1, 2, 5])
def test_taps_of_a_matrix_are_its_lower_band(order: int) -> None:
    matrix = torch.randn(5, 5, dtype=torch.float64)
    taps = band_taps(matrix, order)
    assert taps.shape == (order, 5)
    assert torch.equal(band_matrix(taps, 5), matrix.tril() - matrix.tril(-order))
    assert torch.equal(taps[-1], matrix.diagonal())


def test_no_steps_give_no_membranes() -> None:
    taps = torch.randn(3, 1, requires_grad=True)
    h = causal_filter(torch.zeros(0, 2, 3), taps)
    assert h.shape == (0, 2, 3)
    h.sum().backward()
    assert not taps.grad.any()
