"""The window kernels against ``causal_filter`` and ``spike``: spikes and every gradient."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from kernel_tests import DEVICE, draw, needs_triton
from torch import Tensor

from bitspike.neurons import MaskedPSN, SlidingPSN
from bitspike.ops import SURROGATES, ATan, Surrogate, WindowProgram, causal_filter, spike
from bitspike.ops.triton import window

pytestmark = needs_triton
CASES = {  # steps, shape, order, whether every step has its taps and threshold, surrogate
    "one-step": (1, (3, 5), 3, False, "atan"),
    "one-tap": (9, (37,), 1, False, "sigmoid"),
    "shared": (11, (2, 67), 4, False, "atan"),
    "more-taps-than-steps": (3, (21,), 7, False, "triangle"),
    "per-step": (10, (2, 3, 7), 3, True, "rectangle"),
    "two-blocks": (2, (131,), 2, False, "sigmoid"),
}


def reference(current: Tensor, taps: Tensor, threshold: Tensor, surrogate: Surrogate) -> Tensor:
    membranes = causal_filter(current, taps)
    return spike(membranes - threshold.view(-1, *[1] * (current.dim() - 1)), surrogate)


def kernel(current: Tensor, taps: Tensor, threshold: Tensor, surrogate: Surrogate) -> Tensor:
    return window.run(current, WindowProgram(taps, threshold, surrogate))


def leaves(steps: int, shape: tuple[int, ...], order: int, per_step: bool, dtype: torch.dtype) -> tuple[Tensor, ...]:
    each = steps if per_step else 1
    return draw(steps, *shape, dtype=dtype), draw(order, each, dtype=dtype), draw(each, dtype=dtype, scale=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_spikes_are_the_reference_bit_for_bit_and_gradients_up_to_rounding(case: str, dtype: torch.dtype) -> None:
    *sizes, name = CASES[case]
    inputs, surrogate = leaves(*sizes, dtype), SURROGATES[name](1.5)
    expected, actual = reference(*inputs, surrogate), kernel(*inputs, surrogate)
    assert torch.equal(actual, expected) and actual.dtype == dtype and 0.05 < actual.mean() < 0.95
    upstream = draw(*actual.shape, dtype=dtype, gradient=False)
    wanted = torch.autograd.grad(expected, inputs, upstream)
    for gradient, value in zip(torch.autograd.grad(actual, inputs, upstream), wanted, strict=True):
        close(gradient, value, scale=10 if dtype == torch.float32 else 1)  # sums of up to a thousand products


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    inputs = leaves(9, (50,), 3, False, dtype)
    wide = tuple(t.detach().float().requires_grad_() for t in inputs)
    expected, actual = reference(*wide, ATan()), kernel(*inputs, ATan())
    assert actual.dtype == dtype and torch.equal(actual.float(), expected)
    upstream = draw(9, 50, dtype=dtype, gradient=False)
    wanted = torch.autograd.grad(expected, wide, upstream.float())
    for gradient, value in zip(torch.autograd.grad(actual, inputs, upstream), wanted, strict=True):
        assert gradient.dtype == dtype
        close(gradient, value)  # rounded once, on the way out


def test_taps_of_a_wider_dtype_widen_the_spikes_as_in_the_reference() -> None:
    current, *learned = draw(5, 9, dtype=torch.float16), *leaves(5, (9,), 2, False, torch.float32)[1:]
    expected, actual = reference(current, *learned, ATan()), kernel(current, *learned, ATan())
    assert actual.dtype == expected.dtype == torch.float32 and torch.equal(actual, expected)
    actual.sum().backward()
    assert current.grad.dtype == torch.float16 and learned[0].grad.dtype == torch.float32


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)], ids=str)
def test_empty_currents_give_empty_spikes_and_zero_gradients(shape: tuple[int, int]) -> None:
    current, taps, threshold = draw(*shape), draw(3, 1), draw(1)
    kernel(current, taps, threshold, ATan()).sum().backward()
    assert current.grad.shape == shape and not taps.grad.any() and not threshold.grad.any()


@pytest.mark.parametrize("neuron", [SlidingPSN(3), MaskedPSN(6, order=2)], ids=lambda n: type(n).__name__)
def test_neurons_give_these_kernels_what_they_compute(neuron: SlidingPSN | MaskedPSN) -> None:
    neuron = neuron.double().to(DEVICE)
    current, program = draw(6, 4, 3, scale=1.5), neuron.program()
    assert isinstance(program, WindowProgram) and window.refusal(current, program) is None
    upstream, results = draw(6, 4, 3, gradient=False), []
    for spikes in (neuron.fire(neuron.membranes(current), neuron.threshold), window.run(current, program)):
        gradients = torch.autograd.grad(spikes, (current, neuron.weight, neuron.threshold), upstream)
        results.append((spikes.detach(), *gradients))
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)


def test_channels_last_currents_with_gaps_between_steps() -> None:
    whole = draw(7, 2, 5, 3, 4, gradient=False).permute(0, 1, 4, 2, 3)  # (T, N, C, H, W), channels last
    current = whole[:, :1].requires_grad_()
    taps, threshold = draw(2, 1), draw(1)
    expected, actual = reference(current, taps, threshold, ATan()), kernel(current, taps, threshold, ATan())
    assert torch.equal(actual, expected) and actual.stride()[2:] == current.stride()[2:]
    close(*(torch.autograd.grad(s.sum(), current)[0] for s in (actual, expected)))


def test_operator_is_registered_soundly() -> None:
    operator = torch.ops.bitspike.window_triton.default
    torch.library.opcheck(operator, (*leaves(3, (4,), 2, False, torch.float64), 2, 2.0))


def test_what_has_no_kernel_is_refused_with_a_reason() -> None:
    def reason(order: int, dtype: torch.dtype = torch.float32) -> str | None:
        taps = torch.ones(order, 1, dtype=dtype, device=DEVICE)
        return window.refusal(draw(4, 5), WindowProgram(taps, torch.ones(1, device=DEVICE), ATan()))

    assert reason(32) is None and reason(33) == "there is no GPU kernel for more than 32 taps"
    assert reason(2, torch.complex64) == "there is no kernel for torch.complex64"
