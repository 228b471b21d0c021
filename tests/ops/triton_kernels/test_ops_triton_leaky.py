"""The scan of the kernels against ``lif_scan``: spikes and every gradient."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from kernel_tests import DEVICE, draw, needs_triton
from torch import Tensor, nn

from bitspike.ops import (
    SURROGATES,
    LeakyProgram,
    LifRule,
    Triangle,
    WindowProgram,
    full_gradient,
    hard_reset,
    lif_scan,
    multiplicative_leak,
    soft_reset,
    spatial_gradient,
)
from bitspike.ops.backends import BACKENDS
from bitspike.ops.triton import leaky, window

pytestmark = needs_triton
THRESHOLD = 0.8


def reference(current: Tensor, leak: float | Tensor, gain: float | Tensor, **options: object) -> Tensor:
    rule = LifRule(
        leak=multiplicative_leak(leak),
        threshold=THRESHOLD,
        surrogate=options.get("surrogate", Triangle()),
        reset=hard_reset if options.get("hard", True) else soft_reset,
        detach_reset=bool(options.get("detach_reset", False)),
        temporal=full_gradient if options.get("full", True) else spatial_gradient,
        gain=gain,
    )
    return lif_scan(current, rule)


def kernel(current: Tensor, leak: float | Tensor, gain: float | Tensor, **options: object) -> Tensor:
    return leaky.run(current, program(leak, gain, **options))


def program(leak: float | Tensor = 0.5, gain: float | Tensor = 1.0, **options: object) -> LeakyProgram:
    return LeakyProgram(
        kind="hard" if options.get("hard", True) else "soft",
        threshold=THRESHOLD,
        surrogate=options.get("surrogate", Triangle()),
        leak=leak,
        gain=gain,
        detach_reset=bool(options.get("detach_reset", False)),
        spatial=not options.get("full", True),
    )


def scalar(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype, device=DEVICE, requires_grad=True)


CASES = [
    (1, (3, 47), "triangle", {}),
    (4, (130,), "sigmoid", {"hard": False}),
    (5, (2, 3, 5, 1), "atan", {"detach_reset": True}),
    (7, (33,), "rectangle", {"hard": False, "detach_reset": True}),
    (8, (29,), "triangle", {"hard": False, "full": False}),
    (9, (1, 31), "sigmoid", {"full": False, "detach_reset": True}),
    (17, (11,), "atan", {}),
    (26, (7, 3), "rectangle", {"hard": False}),
]


@pytest.mark.parametrize(("steps", "shape", "name", "options"), CASES, ids=str)
def test_spikes_and_all_gradients_are_those_of_the_reference(
    steps: int, shape: tuple[int, ...], name: str, options: dict[str, object]
) -> None:
    inputs = draw(steps, *shape, scale=1.3), scalar(0.7), scalar(0.9)
    options = {"surrogate": SURROGATES[name](1.5)} | options
    upstream = draw(steps, *shape, gradient=False)
    expected, actual = reference(*inputs, **options), kernel(*inputs, **options)
    assert torch.equal(actual, expected) and (steps * len(actual[0]) < 100 or 0.05 < actual.mean() < 0.9)
    wanted = torch.autograd.grad(expected, inputs, upstream, allow_unused=True)  # one step: no leak in the graph
    found = torch.autograd.grad(actual, inputs, upstream)
    for gradient, value in zip(found, wanted, strict=True):
        close(gradient, torch.zeros_like(gradient) if value is None else value)
        assert value is None or value.abs().max() > 0


def test_every_surrogate_has_a_kernel() -> None:
    from bitspike.ops.triton.kernels.surrogates import DERIVATIVES

    assert len(DERIVATIVES) == len(SURROGATES) and SURROGATES.keys() == {name for _, _, name, _ in CASES}


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
def test_spikes_of_float32_are_those_of_the_reference_bit_for_bit(hard: bool) -> None:
    current = draw(11, 301, dtype=torch.float32, scale=1.3)
    expected, actual = reference(current, 0.7, 0.3, hard=hard), kernel(current, 0.7, 0.3, hard=hard)
    assert torch.equal(actual, expected)
    upstream = draw(11, 301, dtype=torch.float32, gradient=False)
    close(*(torch.autograd.grad(s, current, upstream)[0] for s in (actual, expected)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_keeps_its_membrane_in_float32(dtype: torch.dtype) -> None:
    current, leak = draw(10, 77, dtype=dtype, scale=1.3), scalar(0.7, torch.float32)
    wide = current.detach().float().requires_grad_()
    expected, actual = reference(wide, leak, 1.0), kernel(current, leak, 1.0)
    assert actual.dtype == dtype and torch.equal(actual.float(), expected)
    upstream = draw(10, 77, dtype=dtype, gradient=False)
    wanted = torch.autograd.grad(expected, (wide, leak), upstream.float())
    found = torch.autograd.grad(actual, (current, leak), upstream)
    assert found[0].dtype == dtype and found[1].dtype == torch.float32
    close(found[0], wanted[0])  # rounded once, on the way out
    close(found[1], wanted[1])


@pytest.mark.parametrize("shape", [(0, 3), (4, 0, 2), (0,)], ids=str)
def test_empty_currents_give_empty_spikes_and_zero_gradients(shape: tuple[int, ...]) -> None:
    current, leak = draw(*shape, dtype=torch.float32), scalar(0.5, torch.float32)
    spikes = kernel(current, leak, 1.0)
    spikes.sum().backward()
    assert spikes.shape == current.grad.shape == shape and leak.grad.item() == 0


def test_channels_last_currents_are_not_copied() -> None:
    plain = draw(3, 2, 4, 5, 3, gradient=False)
    last = plain.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3).requires_grad_()
    assert not last.is_contiguous()
    spikes = kernel(last, 0.7, 1.0)
    assert spikes.stride() == last.stride() and torch.equal(spikes, kernel(plain, 0.7, 1.0))
    upstream = torch.randn_like(plain)
    spikes.backward(upstream)
    close(last.grad, torch.autograd.grad(reference(last, 0.7, 1.0), last, upstream)[0])


def test_currents_and_gradients_with_gaps_in_memory() -> None:
    wide = draw(4, 6, 10)
    gaps = wide[:, ::2, 1:]
    close(*(torch.autograd.grad(f(gaps, 0.7, 1.0).sum(), wide)[0] for f in (kernel, reference)))


def test_gradient_of_the_leak_repeats_bit_for_bit() -> None:
    current, leak, gain = draw(3, 300, dtype=torch.float32), scalar(0.7, torch.float32), scalar(0.9, torch.float32)
    upstream = draw(3, 300, dtype=torch.float32, gradient=False)
    first, second = (torch.autograd.grad(kernel(current, leak, gain), (leak, gain), upstream) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("steps", "carries"), [(4, 0), (8, 0), (9, 1), (24, 2)])
def test_kept_for_backward_are_currents_a_bit_per_spike_and_a_membrane_per_8_steps(steps: int, carries: int) -> None:
    kept: list[Tensor] = []
    current = draw(steps, 40, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        kernel(current, 0.7, 1.0)
    sizes = [t.numel() * t.element_size() for t in kept if t is not None]
    assert sorted(sizes) == sorted([steps * 40 * 4, -(-steps // 8) * 40, carries * 40 * 4])


def test_nothing_is_kept_without_gradients() -> None:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        with torch.no_grad():
            kernel(draw(9, 5), 0.7, 1.0)
        kernel(draw(9, 5, gradient=False), 0.7, 1.0)
    assert not kept


class _Unknown:
    def derivative(self, distance: Tensor) -> Tensor:
        return distance


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.3, dtype=torch.float64, device=DEVICE))

    def forward(self, current: Tensor) -> Tensor:
        return 2 * kernel(3 * current, torch.sigmoid(self.w), 1 - torch.sigmoid(self.w))


def test_compiled_whole_it_equals_eager() -> None:
    net, current = _Net(), draw(5, 2, 9, gradient=False)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    results = []
    for call in (net, compiled):
        net.w.grad = None
        spikes = call(current)
        (spikes * torch.arange(9, device=DEVICE)).sum().backward()
        results.append((spikes.detach(), net.w.grad))
    assert torch.equal(results[0][0], results[1][0])
    close(results[0][1], results[1][1])


@pytest.mark.parametrize("requires_grad", [True, False])
def test_operator_is_registered_soundly(requires_grad: bool) -> None:
    current, leak = draw(9, 2, 3, gradient=requires_grad), scalar(0.7) if requires_grad else None
    settings = (0.7, 1.0, True, 0.8, 2, 2.0, False, False, requires_grad)
    torch.library.opcheck(torch.ops.bitspike.leaky_triton.default, (current, leak, None, *settings))


REFUSALS = {
    "there is no GPU kernel for integer neurons": (torch.float32, LeakyProgram("integer", 4, None, 0.5)),
    "the leak is not a scalar on the device of the current": (torch.float32, program(torch.ones(3))),
    "there is no kernel for torch.int32": (torch.int32, program()),
    "there is no kernel for the surrogate _Unknown": (torch.float32, program(surrogate=_Unknown())),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_has_no_kernel_is_refused_with_a_reason(reason: str) -> None:
    dtype, refused = REFUSALS[reason]
    assert leaky.refusal(torch.zeros(2, 3, dtype=dtype, device=DEVICE), refused) == reason
    assert leaky.refusal(torch.zeros(2, 3, device=DEVICE), program()) is None


def test_other_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert leaky.refusal(torch.zeros(2, 3), program()) == "Triton has no kernels for cpu"


def test_without_triton_the_reason_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert leaky.refusal(torch.zeros(2, 3), program()) == "triton is not installed: pip install 'bitspike[gpu]'"


def test_neurons_on_a_gpu_are_run_by_these_kernels() -> None:
    assert BACKENDS["cuda", LeakyProgram].run is leaky.run and BACKENDS["cuda", WindowProgram].run is window.run
