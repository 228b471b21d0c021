"""Fused kernels of neurons without reset against the reference: spikes bit for bit, every gradient in float64."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike import _native, _training
from bitspike.neurons import MaskedPSN, SlidingPSN
from bitspike.neurons.psn import Parallel
from bitspike.ops import SURROGATES, reference_only

SHAPES = [(1,), (7,), (133,), (2, 5, 3), (1031,), (0, 4)]  # of a step


def results(neuron: Parallel, current: Tensor, upstream: Tensor) -> list[Tensor]:
    """Spikes and the gradients of the current, the taps and the thresholds."""
    current = current.clone().requires_grad_()
    neuron.zero_grad()
    spikes = neuron(current)
    spikes.backward(upstream)
    return [spikes.detach(), current.grad, *(p.grad for p in neuron.parameters())]


def check(neuron: Parallel, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    current, upstream = 0.5 + torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    assert neuron.backend(current).name == "native"
    fused = results(neuron, current, upstream)
    with reference_only():
        expected = results(neuron, current, upstream)
    assert torch.equal(fused[0], expected[0])
    for one, other in zip(fused[1:], expected[1:], strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        close(one, other, scale=100)
    return fused[0]


@pytest.mark.parametrize("order", [1, 2, 4, 7])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_sliding_equals_the_reference(surrogate: str, order: int) -> None:
    neuron = SlidingPSN(order, kernel="uniform", threshold=0.3, surrogate=SURROGATES[surrogate]()).double()
    for steps in (1, 3, 16):
        for shape in SHAPES:
            check(neuron, (steps, *shape))
    assert 0.02 < check(SlidingPSN(order).double(), (16, 133)).mean() < 0.98


@pytest.mark.parametrize("steps, order", [(1, 1), (3, 3), (16, 5)])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_closed_mask_equals_the_reference(surrogate: str, steps: int, order: int) -> None:
    neuron = MaskedPSN(steps, order=order, threshold=0.2, surrogate=SURROGATES[surrogate]()).double()
    with torch.no_grad():
        neuron.threshold.add_(0.1 * torch.rand(steps))
    for shape in SHAPES:
        check(neuron, (steps, *shape))


def test_open_masks_run_on_the_reference() -> None:
    current = torch.randn(3, 5)
    assert MaskedPSN(3, progress=0.5).backend(current).reason == "a full matrix over time is a product, torch's own"


@pytest.mark.parametrize("level", _native.levels())
def test_every_level_gives_the_bits_of_the_reference(level: str) -> None:
    _training.select_level(level)
    try:
        check(SlidingPSN(5, kernel="uniform", threshold=0.2), (9, 1731), torch.float32)
        check(MaskedPSN(9, order=4, threshold=0.2), (9, 1731), torch.float32)
    finally:
        _training.select_level("")


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    neuron, current = SlidingPSN(4), torch.randn(4, 50_001)
    upstream = torch.randn_like(current)
    one = results(neuron, current, upstream)
    torch.set_num_threads(2)
    try:
        two = results(neuron, current, upstream)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
