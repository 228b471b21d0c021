"""The fused neurons as torch operators: memory layouts, compilation, double backward, export."""

from __future__ import annotations

import pytest
import torch
from helpers import close
from torch import Tensor

from bitspike.neurons import LIF, PLIF, AdaptiveLIF, IntegerLIF, Neuron, ReachingLIF, SlidingPSN, TernaryLIF
from bitspike.ops import ATan, reference_only
from bitspike.ops.native import leaky, window

NEURONS = [
    LIF(0.6, decay_input=True),
    PLIF(2.5, decay_input=True),
    ReachingLIF(),
    TernaryLIF(),
    AdaptiveLIF(),
    IntegerLIF(),
    SlidingPSN(3),
]
LAYOUTS = {
    "channels-last": lambda: torch.randn(3, 2, 4, 5, 6).permute(0, 1, 4, 2, 3),
    "transposed": lambda: torch.randn(3, 5, 7).transpose(1, 2),
    "every-second-step": lambda: torch.randn(6, 4, 5)[::2],
    "every-second-neuron": lambda: torch.randn(3, 4, 10)[..., ::2],
    "time-last": lambda: torch.randn(4, 5, 3).movedim(-1, 0),
    "one-image-for-all-steps": lambda: torch.randn(1, 4, 5).expand(3, 4, 5),
    "one-number-for-all": lambda: torch.full((), 0.7).expand(3, 4, 5),
    "offset": lambda: torch.randn(200)[3:123].view(3, 40),
    "one-axis": lambda: torch.randn(9),
}


def outcome(neuron: Neuron, current: Tensor, upstream: Tensor) -> list[Tensor]:
    leaf = current.detach().requires_grad_()
    neuron.zero_grad()
    outputs = neuron(leaf)
    outputs.backward(upstream)
    return [outputs.detach(), leaf.grad, *(p.grad for p in neuron.parameters())]


def same(ours: list[Tensor], expected: list[Tensor]) -> None:
    assert torch.equal(ours[0], expected[0])
    for one, other in zip(ours[1:], expected[1:], strict=True):
        assert one.dtype == other.dtype
        close(one, other, scale=10)


@pytest.mark.parametrize("expanded", [False, True], ids=["full", "expanded"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: type(n).__name__)
def test_any_layout_of_current_and_gradient(neuron: Neuron, layout: str, expanded: bool) -> None:
    current = LAYOUTS[layout]()
    upstream = torch.ones(()).expand(current.shape) if expanded else torch.randn(current.shape)
    ours = outcome(neuron, current, upstream)
    with reference_only():
        same(ours, outcome(neuron, current, upstream))


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: type(n).__name__)
def test_channels_last_stays_and_is_not_copied(neuron: Neuron) -> None:
    current = LAYOUTS["channels-last"]().detach().requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        outputs = neuron(current)
    outputs.sum().backward()
    assert outputs.stride() == current.grad.stride() == current.stride()
    assert {t.data_ptr() for t in kept if t.dim() == 5} == {current.data_ptr()}


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: type(n).__name__)
def test_compiles_into_one_graph(neuron: Neuron) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(neuron, fullgraph=True, backend="aot_eager")
    current, upstream = torch.randn(4, 3, 7), torch.randn(4, 3, 7)
    leaf = current.clone().requires_grad_()
    expected = outcome(neuron, current, upstream)
    neuron.zero_grad()
    outputs = compiled(leaf)
    outputs.backward(upstream)
    same([outputs.detach(), leaf.grad, *(p.grad for p in neuron.parameters())], expected)


def test_compiles_with_inductor_among_other_operations() -> None:
    torch._dynamo.reset()
    neuron = LIF(0.6, surrogate=ATan())
    compiled = torch.compile(lambda x: neuron(2 * x).mean(0), fullgraph=True)
    current = torch.randn(4, 3, 7, requires_grad=True)
    plain = current.detach().clone().requires_grad_()
    (expected := neuron(2 * plain).mean(0)).sum().backward()
    (actual := compiled(current)).sum().backward()
    assert torch.equal(actual, expected)
    close(current.grad, plain.grad)


CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
SETTINGS = (0.5, 1.0, 0, 1.0, 0.0, 0.0, 2, 2.0, False, False)


@pytest.mark.parametrize("layout", ["channels-last", "every-second-step", "offset"])
def test_operators_keep_the_contract_of_torch(layout: str) -> None:
    current = LAYOUTS[layout]().double().requires_grad_()
    learned = (torch.tensor(0.6, dtype=torch.float64, requires_grad=True), None)
    torch.library.opcheck(leaky._leaky, (current, *learned, *SETTINGS), test_utils=CHECKS)
    torch.library.opcheck(leaky._leaky_backward, (current.detach(), current.detach(), None, None, *SETTINGS))
    taps, threshold = torch.randn(2, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    torch.library.opcheck(window._window, (current, taps.requires_grad_(), threshold, 2, 2.0), test_utils=CHECKS)


@pytest.mark.parametrize("neuron", [LIF(), SlidingPSN(3)], ids=["lif", "sliding"])
def test_second_derivatives_are_refused(neuron: Neuron) -> None:
    current = torch.randn(3, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(neuron(current).sum(), current, create_graph=True)
    with pytest.raises(RuntimeError, match="fused neurons have no second derivative"):
        gradient.sum().backward()
    with reference_only():
        (gradient,) = torch.autograd.grad(neuron(current).sum(), current, create_graph=True)
        gradient.sum().backward()


@pytest.mark.parametrize("neuron", [LIF(), SlidingPSN(3)], ids=["lif", "sliding"])
def test_exported_graphs_hold_operators_of_torch_only(neuron: Neuron) -> None:
    current = torch.randn(3, 5)
    graph = torch.export.export(neuron, (current,)).graph
    assert not [node for node in graph.nodes if "bitspike." in str(node.target)]
    traced = torch.jit.trace(neuron, (current,))
    assert "bitspike::" not in str(traced.inlined_graph) and torch.equal(traced(current), neuron(current))


def test_an_operator_is_seen_by_those_who_watch() -> None:
    graph = torch.fx.experimental.proxy_tensor.make_fx(LIF())(torch.randn(3, 5))
    assert [node for node in graph.graph.nodes if "bitspike.leaky" in str(node.target)]
