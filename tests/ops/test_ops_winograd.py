"""Convolutions by Winograd's tiles: the reference against torch, the kernels against the reference, and what they keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from helpers import close
from torch import Tensor
from torch.nn import functional as F

from bitspike import _native, _training
from bitspike.ops import winograd_conv2d
from bitspike.ops.native import winograd
from bitspike.ops.winograd import INPUT, _both_sides

Convolution = Callable[[Tensor, Tensor, Tensor | None], Tensor]
SIZES = [(1, 1), (2, 3), (5, 2), (7, 1), (3, 7), (4, 4), (32, 5), (7, 32)]
CHANNELS = [(1, 1), (3, 5), (16, 16), (17, 33), (40, 70), (65, 8)]  # inputs, outputs: below, at and past panels
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda x: x.contiguous(),
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "part": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
}


@pytest.fixture(params=_native.levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    _training.select_level(request.param)
    yield request.param
    _training.select_level("")


def torchs(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1)


def problem(
    samples: int, channels: tuple[int, int], size: tuple[int, int], dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Input, weights, bias and the gradient by the output."""
    inputs, outputs = channels
    shapes = [(samples, inputs, *size), (outputs, inputs, 3, 3), (outputs,), (samples, outputs, *size)]
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def results(convolve: Convolution, x: Tensor, weight: Tensor, bias: Tensor | None, upstream: Tensor) -> list[Tensor]:
    """Output and the gradients by input, weights and bias."""
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in (x, weight, bias)]
    out = convolve(*leaves)
    out.backward(upstream)
    assert out.dtype == x.dtype
    return [out.detach(), *(t.grad for t in leaves if t is not None)]


def same(ours: list[Tensor], expected: list[Tensor], scale: float = 100.0) -> None:
    for one, other in zip(ours, expected, strict=True):
        assert one.shape == other.shape
        close(one, other, scale=scale)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_the_reference_is_a_convolution(size: tuple[int, int], bias: bool) -> None:
    x, weight, offset, upstream = problem(2, (3, 5), size)
    inputs = x, weight, offset if bias else None, upstream
    same(results(winograd_conv2d, *inputs), results(torchs, *inputs))


def test_points_of_spikes_are_whole_numbers() -> None:
    points = _both_sides(INPUT, (torch.rand(50, 6, 6) < 0.4).float())
    assert torch.equal(points, points.round()) and points.abs().max() <= 100


@pytest.mark.parametrize("channels", CHANNELS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_every_level_gives_output_and_gradients_of_the_reference(
    level: str, dtype: torch.dtype, channels: tuple[int, int]
) -> None:
    assert _training.level() == level
    for size in SIZES:
        inputs = problem(3, channels, size, dtype)
        same(results(winograd.run, *inputs), results(winograd_conv2d, *inputs))


def test_many_tiles_in_many_blocks(level: str) -> None:
    inputs = problem(7, (33, 50), (21, 18))  # 210 tiles
    same(results(winograd.run, *inputs), results(torchs, *inputs))


def test_gradients_are_those_of_differences() -> None:
    x, weight, bias, _ = problem(2, (3, 2), (5, 6))
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(winograd.run, leaves)


@pytest.mark.parametrize("spiking", [False, True], ids=["real", "spikes"])
def test_float32_is_close_to_the_truth(spiking: bool) -> None:
    x, weight, bias, upstream = problem(8, (128, 96), (16, 12), torch.float32)
    x = (x > 0.5).float() if spiking else x
    ours = results(winograd.run, x, weight, bias, upstream)
    truth = results(torchs, *(t.double() for t in (x, weight, bias, upstream)))
    for one, other in zip(ours, truth, strict=True):
        assert (one - other).norm() < 3e-6 * other.norm()
        assert (one - other).abs().max() < 1.5e-5 * other.abs().max()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    inputs = problem(9, (48, 80), (19, 17), torch.float32)
    one = results(winograd.run, *inputs)
    torch.set_num_threads(3)
    try:
        three = results(winograd.run, *inputs)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_results_do_not_depend_on_the_other_samples() -> None:
    x, weight, bias, _ = problem(6, (20, 40), (9, 10), torch.float32)
    whole = winograd.run(x, weight, bias)
    assert torch.equal(whole[4:5], winograd.run(x[4:5], weight, bias))


def test_results_past_the_caches_are_the_same() -> None:
    """Large results are stored another way than small ones."""
    x, weight, bias, _ = problem(65, (16, 64), (32, 32), torch.float32)
    whole = winograd.run(x, weight, bias)
    assert whole.numel() * 4 > 16 << 20
    assert torch.equal(whole[60:], winograd.run(x[60:], weight, bias))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_any_tensor(layout: str) -> None:
    change, (x, weight, bias, upstream) = LAYOUTS[layout], problem(2, (16, 18), (6, 9))
    expected = results(torchs, x, weight, bias, upstream)
    leaves = [change(x).requires_grad_(), change(weight).requires_grad_(), bias.requires_grad_()]
    out = winograd.run(*leaves)
    out.backward(change(upstream))
    assert out.is_contiguous(memory_format=torch.channels_last)
    same([out.detach(), *(t.grad for t in leaves)], expected)


def test_an_input_for_all_samples_and_a_gradient_for_all_outputs() -> None:
    x, weight, bias, _ = problem(1, (16, 17), (5, 8))
    x, ones = x.expand(4, -1, -1, -1), torch.ones((), dtype=x.dtype).expand(4, 17, 5, 8)
    same(results(winograd.run, x, weight, bias, ones), results(torchs, x, weight, bias, ones))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4, 5), (2, 3, 0, 4, 5), (2, 0, 4, 4, 5), (2, 3, 4, 4, 0)], ids=str)
def test_nothing_in_and_nothing_out(shape: tuple[int, int, int, int, int]) -> None:
    samples, inputs, height, width, outputs = shape
    done = results(winograd.run, *problem(samples, (inputs, outputs), (height, width)))
    assert done[0].shape == (samples, outputs, height, width)
    if 0 in (samples, height, outputs):
        assert not any(t.any() for t in done)
    else:  # no input: the bias everywhere
        assert torch.equal(done[0], done[0][:1, :, :1, :1].expand_as(done[0])) and done[3].any()


@pytest.mark.parametrize("wanted", range(1, 8))
def test_any_part_of_the_gradients(wanted: int) -> None:
    *tensors, upstream = problem(2, (16, 19), (6, 5))
    needed = [bool(wanted >> i & 1) for i in range(3)]
    leaves = [t.clone().requires_grad_(needs) for t, needs in zip(tensors, needed, strict=True)]
    winograd.run(*leaves).backward(upstream)
    _, *expected = results(winograd.run, *tensors, upstream)
    for leaf, needs, gradient in zip(leaves, needed, expected, strict=True):
        assert (leaf.grad is not None) == needs
        assert not needs or torch.equal(leaf.grad, gradient)


def test_spikes_are_kept_as_bits() -> None:
    kept: list[Tensor] = []
    _, weight, _, _ = problem(4, (16, 24), (6, 7), torch.float32)
    x = (torch.rand(4, 16, 6, 7) < 0.3).float().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = winograd.run(x, weight.requires_grad_(), None)
    assert sum(t.numel() * t.element_size() for t in kept if t is not weight) == x.numel() // 8
    out.sum().backward()
    assert weight.grad is not None and x.grad is not None


def test_without_gradients_nothing_is_kept_and_all_is_the_same() -> None:
    x, weight, bias, _ = problem(2, (16, 24), (6, 7), torch.float32)
    expected = winograd.run(x, weight.requires_grad_(), bias)
    with torch.no_grad():
        out = winograd.run(x, weight, bias)
    assert torch.equal(out, expected) and out.grad_fn is None and expected.grad_fn is not None


def test_a_changed_weight_is_noticed_and_second_derivatives_are_refused() -> None:
    x, weight, _, _ = problem(2, (16, 24), (6, 7))
    scaled = weight.requires_grad_() * 2
    loss = winograd.run(x, scaled, None).square().sum()
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True, retain_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
    with torch.no_grad():
        scaled.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("channels", [(16, 16), (17, 35)], ids=str)
def test_kernels_write_all_of_their_results_and_nothing_else(level: str, channels: tuple[int, int]) -> None:
    inputs, outputs = channels
    x, weight, _, upstream = problem(2, channels, (6, 7), torch.float32)
    x, upstream = (t.contiguous(memory_format=torch.channels_last) for t in (x, upstream))

    def written(size: int, run: Callable[[int], None]) -> Tensor:
        """What a kernel leaves in memory of ``size`` numbers."""
        memory = torch.full((size + 128,), torch.nan)
        run(memory[64:].data_ptr())
        assert memory[:64].isnan().all() and memory[64 + size :].isnan().all()
        return memory[64 : 64 + size]

    maps = x.data_ptr(), weight.data_ptr(), 0
    sizes = 2, 6, 7, inputs, outputs
    out = written(
        2 * 6 * 7 * outputs,
        lambda to: _training.winograd_forward(*maps, to, *sizes, 9 * inputs, 9, False, False, 1),
    )
    assert out.isfinite().all()
    by_weight = written(
        weight.numel(),
        lambda to: _training.winograd_by_weights(x.data_ptr(), upstream.data_ptr(), to, *sizes, False, 1),
    )
    assert by_weight.isfinite().all()
