"""Functions that keep bits: torch's outputs and gradients bit for bit, and a fraction of its memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bitspike.ops import bit_avg_pool2d, bit_conv2d, bit_linear, bit_max_pool2d

INPUTS: dict[str, Callable[..., Tensor]] = {
    "spikes": lambda *shape: (torch.rand(shape) < 0.3).float(),
    "quarters": lambda *shape: torch.randint(0, 5, shape) / 4,
    "real": lambda *shape: torch.randn(shape),
}
PAIRS = ((2, 1), (1, 2), (1, 1))  # stride, padding, dilation
CASES: dict[str, tuple[Callable, Callable, list[tuple[int, ...] | None]]] = {
    "conv": (
        lambda x, w, b: F.conv2d(x, w, b, *PAIRS, 1),
        lambda x, w, b: bit_conv2d(x, w, b, *PAIRS, 1),
        [(5, 3, 3, 3), (5,)],
    ),
    "conv-groups": (
        lambda x, w, b: F.conv2d(x, w, b, 1, 0, 2, 3),
        lambda x, w, b: bit_conv2d(x, w, b, (1, 1), (0, 0), (2, 2), 3),
        [(6, 1, 2, 2), None],
    ),
    "linear": (F.linear, bit_linear, [(4, 11), (4,)]),
    "linear-no-bias": (F.linear, bit_linear, [(4, 11), None]),
    "max-pool": (
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: bit_max_pool2d(x, (3, 3), (2, 2), (1, 1), (1, 1), False),
        [],
    ),
    "avg-pool": (
        lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
        lambda x: bit_avg_pool2d(x, (2, 2), (2, 2), (0, 0), True, True, None),
        [],
    ),
}


def arguments(case: str, kind: str, dtype: torch.dtype, samples: int = 7) -> list[Tensor | None]:
    x = INPUTS[kind](samples, 3, 9, 11)
    others = [None if shape is None else torch.randn(shape) for shape in CASES[case][2]]
    return [None if t is None else t.to(dtype).requires_grad_() for t in (x, *others)]


def outcome(function: Callable, given: list[Tensor | None], layout: torch.memory_format) -> list[Tensor]:
    """Output, then gradients."""
    given = [None if t is None else t.detach().clone().requires_grad_() for t in given]
    out = function(given[0].contiguous(memory_format=layout), *given[1:])
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
    return [out, *(t.grad for t in given if t is not None)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_torch(
    case: str, kind: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    given = arguments(case, kind, dtype)
    for theirs, ours in zip(*(outcome(f, given, layout) for f in CASES[case][:2]), strict=True):
        assert torch.equal(theirs, ours) and theirs.stride() == ours.stride() and theirs.dtype == ours.dtype


@pytest.mark.parametrize("case", CASES)
def test_an_empty_batch_passes(case: str) -> None:
    given = arguments(case, "spikes", torch.float32, samples=0)
    for theirs, ours in zip(*(outcome(f, given, torch.contiguous_format) for f in CASES[case][:2]), strict=True):
        assert torch.equal(theirs, ours)


def kept_bytes(function: Callable, given: list[Tensor | None]) -> int:
    """Bytes that autograd keeps beyond weights."""
    weights, kept = {t.data_ptr() for t in given[1:] if t is not None}, {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function(*given).sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("case", CASES)
def test_of_spikes_only_bits_are_kept(case: str) -> None:
    given = arguments(case, "spikes", torch.float32)
    values = given[0].numel()
    expected = 0 if case == "avg-pool" else (values + 7) // 8
    assert kept_bytes(CASES[case][1], given) == expected
    assert kept_bytes(CASES[case][0], given) >= 4 * values


@pytest.mark.parametrize("case", ["conv", "linear"])
def test_nothing_is_kept_for_a_frozen_weight(case: str) -> None:
    given = [
        arguments(case, "spikes", torch.float32)[0],
        *(t.detach() for t in arguments(case, "real", torch.float32)[1:]),
    ]
    assert kept_bytes(CASES[case][1], given) == 0
    theirs, ours = (outcome_of_input(f, given) for f in CASES[case][:2])
    assert torch.equal(theirs, ours)


def outcome_of_input(function: Callable, given: list[Tensor | None]) -> Tensor:
    (gradient,) = torch.autograd.grad((function(*given) ** 2).sum(), given[0])
    return gradient


@pytest.mark.parametrize("case", CASES)
def test_a_second_derivative_is_refused(case: str) -> None:
    given = arguments(case, "spikes", torch.float64)
    (gradient,) = torch.autograd.grad((CASES[case][1](*given) ** 2).sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("case", ["conv", "linear"])
def test_autocast_computes_in_its_precision_and_gives_float_gradients(case: str) -> None:
    given = arguments(case, "spikes", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = (f(*given) for f in CASES[case][:2])
    assert theirs.dtype == ours.dtype == torch.bfloat16 and torch.equal(theirs, ours)
    leaves = [t for t in given if t is not None]
    gradients = zip(*(torch.autograd.grad(out.float().sum(), leaves) for out in (theirs, ours)), strict=True)
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in gradients)


@pytest.mark.parametrize("case", CASES)
def test_half_inputs_pass(case: str) -> None:
    given = arguments(case, "quarters", torch.bfloat16)
    for theirs, ours in zip(*(outcome(f, given, torch.contiguous_format) for f in CASES[case][:2]), strict=True):
        assert torch.equal(theirs, ours) and ours.dtype == torch.bfloat16
