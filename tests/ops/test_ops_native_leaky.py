"""Fused kernels of neurons with a leak against the reference: outputs bit for bit, every gradient in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike import _native, _training
from bitspike.neurons import LIF, PLIF, AdaptiveLIF, IntegerLIF, Neuron, ReachingLIF, TernaryLIF
from bitspike.ops import (
    SURROGATES,
    ATan,
    LeakyProgram,
    Triangle,
    adaptive_advance,
    choose,
    hard_reset,
    multiplicative_leak,
    reference_only,
    scan_outputs,
    soft_reset,
)

SHAPES = [(1, 1), (3, 7), (16, 133), (5, 3, 2, 11), (3, 0)]  # 133: sixteen registers of AVX-512, five numbers alone
LEVELS = _native.levels()
SHAPED = {"triangle": 0.7, "sigmoid": 3.0, "atan": 1.5, "rectangle": 1.3}


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    _training.select_level(request.param)
    yield request.param
    _training.select_level("")


def results(neuron: Neuron, current: Tensor, upstream: Tensor) -> list[Tensor]:
    """Outputs and the gradients of the current and all parameters."""
    current = current.clone().requires_grad_()
    neuron.zero_grad()
    outputs = neuron(current)
    outputs.backward(upstream)
    assert outputs.dtype == current.dtype
    # A leak that no step used has no gradient in the reference, 0 in the kernels.
    learned = [torch.zeros_like(p) if p.grad is None else p.grad for p in neuron.parameters()]
    return [outputs.detach(), current.grad, *learned]


def check(neuron: Neuron, shape: tuple[int, ...], dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Tensor:
    """Kernel and reference agree; returns the outputs."""
    current = scale * (0.4 + torch.randn(shape, dtype=dtype))
    upstream = torch.randn(shape, dtype=dtype)
    assert neuron.backend(current).name == "native"
    fused = results(neuron, current, upstream)
    with reference_only():
        assert neuron.backend(current).name == "reference"
        expected = results(neuron, current, upstream)
    assert torch.equal(fused[0], expected[0])
    for one, other in zip(fused[1:], expected[1:], strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        close(one, other, scale=10)
    return fused[0]


@pytest.mark.parametrize("temporal", ["full", "spatial"])
@pytest.mark.parametrize("decay", [False, True], ids=["plain", "decay"])
@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_lif_reaching_and_plif_equal_the_reference(
    surrogate: str, reset: str, detach: bool, decay: bool, temporal: str
) -> None:
    options = {
        "surrogate": SURROGATES[surrogate](SHAPED[surrogate]),
        "reset": reset,
        "detach_reset": detach,
        "decay_input": decay,
        "temporal_gradient": temporal,
        "threshold": 0.8,
    }
    for shape in SHAPES:
        check(LIF(0.7, **options), shape, scale=2.0)
        check(ReachingLIF(0.7, **options), shape, scale=2.0)
        fired = check(PLIF(2.6, **options).double(), shape, scale=2.0)
    assert check(LIF(0.7, **options), (16, 133), scale=2.0).mean() > 0.05 and not fired.numel()


@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_ternary_equals_the_reference(surrogate: str, reset: str, detach: bool) -> None:
    neuron = TernaryLIF(0.7, surrogate=SURROGATES[surrogate](), reset=reset, detach_reset=detach)
    for shape in SHAPES:
        check(neuron, shape, scale=2.0)
    assert set(check(neuron, (16, 133), scale=2.0).unique().tolist()) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_adaptive_equals_the_reference(surrogate: str, reset: str, detach: bool) -> None:
    options = {"surrogate": SURROGATES[surrogate](SHAPED[surrogate]), "reset": reset, "detach_reset": detach}
    neuron = AdaptiveLIF(0.7, threshold=0.8, strength=1.3, decay=0.85, **options)
    for shape in SHAPES:
        check(neuron, shape, scale=2.0)
    fired = check(neuron, (16, 133), scale=2.0)
    assert 0.05 < fired.mean() < check(LIF(0.7, threshold=0.8, **options), (16, 133), scale=2.0).mean()


@pytest.mark.parametrize("kind, reset", [("adaptive_hard", hard_reset), ("adaptive_soft", soft_reset)])
def test_a_learned_leak_and_gain_of_an_adaptive_neuron(kind: str, reset: Callable[..., Tensor]) -> None:
    current, upstream = torch.randn(9, 133, dtype=torch.float64), torch.randn(9, 133, dtype=torch.float64)
    leak, gain = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.6, 1.7))
    driven = current.clone().requires_grad_()
    program = LeakyProgram(kind, 0.5, ATan(), leak, gain, strength=0.9, decay=0.75)
    fused = choose(driven, program).run(driven, program)
    advance = adaptive_advance(0.5, 0.9, 0.75, ATan(), multiplicative_leak(leak), reset, False, None)
    expected = scan_outputs(gain * driven, advance)
    assert torch.equal(fused, expected) and 0.1 < fused.mean() < 0.9
    sources = (driven, leak, gain)
    found, wanted = (torch.autograd.grad(spikes, sources, upstream) for spikes in (fused, expected))
    for one, other in zip(found, wanted, strict=True):
        close(one, other, scale=10)


@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("largest", [1, 4, 255])
def test_integer_equals_the_reference(largest: int, detach: bool) -> None:
    neuron = IntegerLIF(largest, leak=0.6, detach_reset=detach)
    for shape in SHAPES:
        check(neuron, shape, scale=0.6 * largest)
    ties = torch.tensor([[-0.5, 0.5, 1.5, 2.5, 254.5, -7.0, 1e9]], dtype=torch.float32)
    with reference_only():
        expected = neuron(ties)
    assert torch.equal(neuron(ties), expected)


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(0.7),
        LIF(0.9, reset="soft", decay_input=True),
        ReachingLIF(0.7),
        TernaryLIF(0.3),
        AdaptiveLIF(0.7),
        AdaptiveLIF(0.9, reset="soft", strength=0.4),
        IntegerLIF(3),
    ],
    ids=str,
)
def test_every_level_gives_the_bits_of_the_reference(neuron: Neuron, level: str) -> None:
    assert _training.level() == level
    for dtype in (torch.float32, torch.float64):
        check(neuron, (12, 1731), dtype, scale=2.0)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_every_level_computes_every_surrogate(surrogate: str, level: str) -> None:
    for dtype in (torch.float32, torch.float64):
        check(LIF(0.7, surrogate=SURROGATES[surrogate]()), (2, 200), dtype, scale=40.0)


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_float32_spikes_are_the_same_where_rounding_decides(reset: str) -> None:
    """Currents in multiples of 1/8: sums fall on the threshold and just beside it."""
    current = torch.randint(-8, 24, (64, 20011)).float() / 8
    for neuron in (
        LIF(0.3, reset=reset, decay_input=True, threshold=0.7),
        ReachingLIF(0.5, reset=reset),
        AdaptiveLIF(0.3, reset=reset, threshold=0.7, strength=0.3, decay=0.7),
        AdaptiveLIF(0.5, reset=reset, strength=0.5, decay=0.5),
    ):
        with reference_only():
            expected = neuron(current)
        assert torch.equal(neuron(current), expected)
        assert 0.05 < expected.mean() < 0.95


def test_reaching_the_threshold_fires_on_the_kernels_too() -> None:
    current = torch.full((1, 200), 1.0)
    assert ReachingLIF().backend(current).name == LIF().backend(current).name == "native"
    assert ReachingLIF()(current).all() and not LIF()(current).any()


def test_infinite_and_undefined_currents_fire_as_in_the_reference() -> None:
    special = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0, -0.0, 1.0, 1e-45, 3e38])
    current = special[torch.randint(len(special), (6, 500))]
    for neuron in (
        LIF(),
        LIF(reset="soft"),
        ReachingLIF(),
        ReachingLIF(reset="soft"),
        TernaryLIF(reset="soft"),
        AdaptiveLIF(),
        AdaptiveLIF(reset="soft"),
    ):
        with reference_only():
            expected = neuron(current)
        assert torch.equal(neuron(current), expected)


@pytest.mark.parametrize("neuron", [PLIF(3.0, decay_input=True, surrogate=ATan()), AdaptiveLIF()], ids=["plif", "alif"])
def test_results_do_not_depend_on_the_number_of_threads(neuron: Neuron) -> None:
    current, upstream = torch.randn(4, 70_001), torch.randn(4, 70_001)
    one = results(neuron, current, upstream)
    torch.set_num_threads(2)
    try:
        two = results(neuron, current, upstream)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("neuron", [LIF(0.9, surrogate=Triangle()), AdaptiveLIF(0.9)], ids=["lif", "alif"])
def test_results_past_the_caches_are_the_same(neuron: Neuron) -> None:
    """Large results are stored another way than small ones."""
    upstream = torch.randn(4, 1)
    current = torch.randn(4, (1 << 20) + 64)
    assert current.numel() * 4 > 16 << 20
    whole = results(neuron, current, upstream.expand_as(current))
    part = results(neuron, current[:, 1000:1300], upstream.expand(4, 300))
    assert all(torch.equal(a[:, 1000:1300], b) for a, b in zip(whole, part, strict=True))


def test_only_the_current_is_kept_for_backward() -> None:
    current = torch.randn(8, 300, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        LIF(0.5, decay_input=True)(current)
    assert [t.data_ptr() for t in kept] == [current.data_ptr()]


def test_a_changed_current_is_noticed_in_backward() -> None:
    current = torch.randn(3, 5, requires_grad=True)
    driven = current * 2
    spikes = LIF()(driven)
    driven.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()
