"""Tokenizers, and what pooling currents instead of spikes changes: the gradient, the neurons, later steps."""

from __future__ import annotations

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn
from torch.nn import functional as F

from bitspike.layers import (
    ConvBN,
    Convolution,
    CurrentPool,
    CurrentTokenizer,
    ShortcutTokenizer,
    SpikePool,
    SpikeTokenizer,
)
from bitspike.layers.norm import batch_norm_affine
from bitspike.models.former import former_neuron
from bitspike.neurons import Neuron

PLAN = [Convolution(2), Convolution(3, pooled=True), Convolution(5, pooled=True)]
POOLS = {"spikes": SpikePool, "currents": CurrentPool}
TOKENIZERS = {"spike": SpikeTokenizer, "current": CurrentTokenizer}
every_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)
every_pool = pytest.mark.parametrize("pool", POOLS)


def build(kind: str, pool: str) -> nn.Module:
    torch.manual_seed(3)
    return lively(TOKENIZERS[kind](2, PLAN, former_neuron, POOLS[pool]))


def lively(model: nn.Module) -> nn.Module:
    """In evaluation mode, with batch norms whose offsets let every layer fire."""
    for module in disturb(model).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.add_(1.3)
    return model.eval()


def currents(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def firing_window() -> Tensor:
    """A 2x2 image, one window: all fire (u = x / 2 > 1), the largest current in the last position."""
    return torch.tensor([[2.5, 3.0], [2.2, 5.0]], dtype=torch.float64).view(1, 1, 1, 2, 2).requires_grad_()


@pytest.mark.parametrize("pool, position", [("spikes", 0), ("currents", 3)])
def test_gradient_goes_to_the_largest_current_only_when_currents_are_pooled(pool: str, position: int) -> None:
    x = firing_window()
    y = POOLS[pool](former_neuron())(x)
    assert y.tolist() == [[[[[1.0]]]]]
    y.sum().backward()
    assert x.grad.flatten().nonzero().flatten().tolist() == [position]
    u = x.detach().flatten()[position] / 2
    s = torch.sigmoid(4 * (u - 1))
    close(x.grad.flatten()[position], 0.5 * 4 * s * (1 - s))  # input gain times surrogate


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 3)], ids=str)
def test_one_step_is_the_same_in_either_order(size: tuple[int, int]) -> None:
    x = currents(1, 4, 3, *size)
    one, other = (pool(former_neuron())(x) for pool in POOLS.values())
    assert torch.equal(one, other) and 0 < one.mean() < 1
    assert one.shape[-2:] == ((size[0] + 1) // 2, (size[1] + 1) // 2)


def test_later_steps_differ() -> None:
    x = currents(4, 4, 3, 7, 5)
    one, other = (pool(former_neuron())(x) for pool in POOLS.values())
    assert torch.equal(one[0], other[0]) and not torch.equal(one, other)


def neuron_shapes(model: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, Neuron):
            module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[2:])))
    model(x)
    return shapes


@every_tokenizer
def test_pooled_layers_keep_a_quarter_of_the_membranes(kind: str) -> None:
    x = torch.rand(2, 1, 2, 16, 12)
    classic, pooled = (neuron_shapes(build(kind, pool), x)[:3] for pool in POOLS)
    assert classic == [(2, 16, 12), (3, 16, 12), (5, 8, 6)]
    assert pooled == [(2, 16, 12), (3, 8, 6), (5, 4, 3)]


@every_tokenizer
def test_convolutions_and_parameters_are_the_same(kind: str) -> None:
    def convolved(pool: str) -> list[tuple[int, ...]]:
        model, shapes = build(kind, pool), []
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
        model(torch.rand(2, 1, 2, 9, 14))
        return shapes

    assert convolved("spikes") == convolved("currents")
    shapes = [[(k, p.shape) for k, p in build(kind, pool).named_parameters()] for pool in POOLS]
    assert shapes[0] == shapes[1]


@every_pool
@every_tokenizer
def test_every_convolution_behind_the_first_reads_spikes(kind: str, pool: str) -> None:
    model, read = build(kind, pool), []
    for module in model.modules():
        if isinstance(module, ConvBN):
            module.register_forward_pre_hook(lambda _m, i: read.append(i[0]))
    out = model(2 * torch.rand(3, 2, 2, 15, 12))
    assert all(set(x.unique().tolist()) == {0, 1} for x in read[1:]) and len(read) == 4
    whole = torch.equal(out, out.round())
    assert whole == (kind == "spike")
    if whole:
        assert out.max() == 2


def test_pooled_currents_are_real_and_their_neurons_binary() -> None:
    model, seen = build("current", "currents"), []
    for module in model.modules():
        if isinstance(module, CurrentPool):
            module.register_forward_hook(lambda _m, i, out: seen.append((i[0], out)))
    model(2 * torch.rand(3, 2, 2, 15, 12))
    assert len(seen) == 2
    assert all(len(x.unique()) > 20 and set(y.unique().tolist()) == {0, 1} for x, y in seen)


def test_folding_batch_norm_before_the_maximum_changes_nothing() -> None:
    """The maximum stands behind batch norm, so a negative gain does not turn it round; before it, it would."""
    conv = disturb(ConvBN(2, 3, 3)).double().eval()
    conv.norm.weight.data[1] *= -1
    x = currents(2, 2, 2, 7, 5).flatten(0, 1)
    gain, offset = batch_norm_affine(conv.norm)
    folded = F.conv2d(x, conv.layer.weight * gain.view(-1, 1, 1, 1), offset, padding=1)
    pooled = F.max_pool2d(conv.norm(conv.layer(x)), 3, 2, 1)
    close(F.max_pool2d(folded, 3, 2, 1), pooled)
    assert not torch.allclose(conv.norm(F.max_pool2d(conv.layer(x), 3, 2, 1)), pooled)


def test_tokenizers_equal_their_equations() -> None:
    x, lif = currents(3, 2, 2, 9, 7).float(), former_neuron()
    spike, current = build("spike", "currents"), build("current", "currents")
    for model in (spike, current):
        first, _, second, _, third, _ = model.stack
        s = lif(first(x))
        for conv in (second, third):
            s = lif(torch.stack([F.max_pool2d(step, 3, 2, 1) for step in conv(s)]))
        close(model.stack(x), s)
    close(spike(x), (s := spike.stack(x)) + lif(spike.position.currents[0](s)))
    close(current(x), current.last(current.stack(x)))


@pytest.mark.parametrize("size", [(16, 12), (9, 7), (5, 3)], ids=str)
@pytest.mark.parametrize("stem", [(), (Convolution(4), Convolution(3, pooled=True))], ids=["plain", "stem"])
@pytest.mark.parametrize("pools", [0, 1, 2])
def test_shortcut_meets_the_stack_at_any_size(size: tuple[int, int], stem: tuple[Convolution, ...], pools: int) -> None:
    plan = [Convolution(5, pooled=pools > 0), Convolution(6, pooled=pools > 1)]
    torch.manual_seed(0)
    model = lively(ShortcutTokenizer(2, stem, plan, former_neuron))
    x = 2 * torch.rand(3, 2, 2, *size)
    out, z = model(x), model.stem(x)
    divisor = 2 ** (pools + len(stem) // 2)
    assert out.shape == (3, 2, 6, -(-size[0] // divisor), -(-size[1] // divisor))
    conv = model.shortcut.currents[0]
    assert conv.layer.stride == (2**pools, 2**pools) and conv.layer.kernel_size == (1, 1)
    sampled = z[..., :: 2**pools, :: 2**pools]
    weights = conv.layer.weight[..., 0, 0]
    current = torch.stack([conv.norm(torch.einsum("oc,nchw->nohw", weights, step)) for step in sampled])
    close(out, model.stack(z) + former_neuron()(current))
    assert set(out.unique().tolist()) <= {0, 1, 2}
