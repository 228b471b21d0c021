"""What runs a convolution of spikes: torch bit for bit, unless Winograd's tiles are asked for and apply."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bitspike.ops import spike_conv2d, winograd_convolutions, winograd_refusal
from bitspike.ops.native import winograd

GEOMETRY = (1, 1), (1, 1), (1, 1), 1
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "kernel": ({"kernel": 1}, "its kernel is not 3x3"),
    "stride": ({"stride": (2, 2)}, "with stride 1"),
    "padding": ({"padding": (0, 1)}, "padding 1"),
    "dilation": ({"dilation": (2, 2)}, "dilation 1"),
    "groups": ({"groups": 2}, "one group"),
    "inputs": ({"inputs": 15, "outputs": 40}, "it has 15 inputs and 40 outputs, fewer than 16"),
    "outputs": ({"inputs": 50, "outputs": 12}, "it has 50 inputs and 12 outputs, fewer than 16"),
    "pairs": ({"outputs": 20}, "it has 24 inputs and 20 outputs, fewer than 16 or 512 pairs of them"),
    "tiles": ({"samples": 3}, "3 maps of 7x8 have 12 tiles of 4x4, fewer than 16"),
    "small-map": ({"size": (5, 6)}, "a map of 5x6 would leave more than half of its 4x4 tiles empty"),
    "half": ({"dtype": torch.bfloat16}, "there is no kernel for torch.bfloat16"),
    "autocast": ({"autocast": True}, "autocast asks for another precision"),
}


def tensors(
    samples: int = 4,
    inputs: int = 24,
    outputs: int = 22,
    size: tuple[int, int] = (7, 8),
    kernel: int = 3,
    groups: int = 1,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    x = (torch.rand(samples, inputs, *size) < 0.3).to(dtype).requires_grad_()
    weight = torch.randn(outputs, inputs // groups, kernel, kernel, dtype=dtype, requires_grad=True)
    return x, weight, torch.randn(outputs, dtype=dtype, requires_grad=True)


def equal(ours: Tensor, expected: Tensor, leaves: tuple[Tensor, ...]) -> bool:
    """Outputs and all gradients, bit for bit."""
    upstream = torch.randn_like(expected)
    pairs = zip(
        (ours, *torch.autograd.grad(ours, leaves, upstream, retain_graph=True)),
        (expected, *torch.autograd.grad(expected, leaves, upstream, retain_graph=True)),
        strict=True,
    )
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_torch_is_the_default_bit_for_bit(dtype: torch.dtype) -> None:
    leaves = tensors(dtype=dtype)
    assert winograd_refusal(*leaves[:2], *GEOMETRY) == "winograd_convolutions() is not in force"
    assert equal(spike_conv2d(*leaves, *GEOMETRY), F.conv2d(*leaves, *GEOMETRY), leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tiles_are_used_where_they_are_asked_for(dtype: torch.dtype) -> None:
    leaves = tensors(dtype=dtype)
    with winograd_convolutions():
        assert winograd_refusal(*leaves[:2], *GEOMETRY) is None
        out = spike_conv2d(*leaves, *GEOMETRY)
    assert equal(out, winograd.run(*leaves), leaves) and not equal(out, F.conv2d(*leaves, *GEOMETRY), leaves)


@pytest.mark.parametrize("case", REFUSED)
def test_torch_where_tiles_do_not_apply(case: str) -> None:
    options, reason = REFUSED[case]
    shape = {k: v for k, v in options.items() if k not in ("stride", "padding", "dilation", "autocast")}
    leaves = tensors(**shape)
    defaults = zip(("stride", "padding", "dilation", "groups"), GEOMETRY, strict=True)
    geometry = tuple(options.get(name, value) for name, value in defaults)
    with winograd_convolutions(), torch.autocast("cpu", enabled=case == "autocast"):
        found = winograd_refusal(*leaves[:2], *geometry)
        assert found is not None and reason in found
        assert equal(spike_conv2d(*leaves, *geometry), F.conv2d(*leaves, *geometry), leaves)


def test_a_backward_pass_is_of_the_kind_of_its_forward_pass() -> None:
    leaves = tensors()
    plain = spike_conv2d(*leaves, *GEOMETRY)
    with winograd_convolutions():
        tiled = spike_conv2d(*leaves, *GEOMETRY)
        assert equal(plain, F.conv2d(*leaves, *GEOMETRY), leaves)
    assert equal(tiled, winograd.run(*leaves), leaves)


def test_blocks_nest_and_end_with_an_exception() -> None:
    x, weight, _ = tensors()
    with pytest.raises(KeyError), winograd_convolutions():
        with winograd_convolutions():
            pass
        assert winograd_refusal(x, weight, *GEOMETRY) is None
        raise KeyError
    assert winograd_refusal(x, weight, *GEOMETRY) is not None


def test_without_gradients_the_same_kind_runs() -> None:
    leaves = tensors()
    with winograd_convolutions():
        expected = spike_conv2d(*leaves, *GEOMETRY)
        with torch.no_grad():
            assert torch.equal(spike_conv2d(*leaves, *GEOMETRY), expected)


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return spike_conv2d(x, weight, bias, *GEOMETRY)


class Layer(torch.nn.Module):
    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convolve(x, weight, bias)


def test_who_watches_or_compiles_sees_the_convolution_of_torch() -> None:
    leaves = tuple(t.detach() for t in tensors())
    with winograd_convolutions():
        torch._dynamo.reset()
        compiled = torch.compile(convolve, backend="aot_eager", fullgraph=True)
        made = torch.fx.experimental.proxy_tensor.make_fx(convolve)(*leaves)
        traced = torch.jit.trace(convolve, leaves, check_trace=False)
        exported = torch.export.export(Layer(), leaves)
        assert torch.equal(compiled(*leaves), F.conv2d(*leaves, *GEOMETRY))
    for graph in (made.graph, exported.graph):
        assert [node for node in graph.nodes if "aten.conv" in str(node.target)]
    assert "aten::_convolution" in str(traced.inlined_graph)


def test_operations_are_counted_as_ever() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    leaves = tensors()
    with winograd_convolutions(), FlopCounterMode(display=False) as counter:
        convolve(*leaves)
    assert counter.get_total_flops() == 2 * 4 * 7 * 8 * 24 * 22 * 9
