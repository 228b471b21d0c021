"""The tokenizer of near and wide convolutions: its equation, what a token sees, which layers read spikes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn
from torch.nn import functional as F

from bitspike.layers import (
    ConvBN,
    Convolution,
    CurrentPool,
    GlobalLocalConv,
    SpikePool,
    StagedTokenizer,
    local_conv,
)
from bitspike.models.former import former_neuron

PLAN = [Convolution(2), Convolution(3, pooled=True), Convolution(5, pooled=True)]
CONVOLUTIONS: dict[str, Callable[[int, int], nn.Module]] = {"global-local": GlobalLocalConv, "plain": local_conv}
every_convolution = pytest.mark.parametrize("convolution", CONVOLUTIONS)


def build(convolution: str, pool: type[nn.Module] = SpikePool, plan: list[Convolution] = PLAN) -> StagedTokenizer:
    torch.manual_seed(3)
    model = disturb(StagedTokenizer(2, plan, CONVOLUTIONS[convolution], former_neuron, pool))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.add_(0.6)
    return model.double().eval()


def images(*shape: int) -> Tensor:
    return 2 * torch.rand(shape, dtype=torch.float64)


@pytest.mark.parametrize("size", [(9, 7), (1, 5), (4, 4)], ids=str)
def test_convolution_is_the_sum_of_both_with_gradients(size: tuple[int, int]) -> None:
    conv, x = disturb(GlobalLocalConv(3, 4)).double().eval(), images(2, 2, 3, *size).requires_grad_()
    near, wide = conv.near, conv.wide
    by_step = [
        near.norm(F.conv2d(step, near.layer.weight, padding=1))
        + wide.norm(F.conv2d(step, wide.layer.weight, padding=2, dilation=2))
        for step in x
    ]
    ours, theirs, wanted = conv(x), torch.stack(by_step), [x, *conv.parameters()]
    close(ours, theirs)
    upstream = torch.randn_like(ours)
    for one, other in zip(*(torch.autograd.grad(y, wanted, upstream) for y in (ours, theirs)), strict=True):
        close(one, other)


def test_a_token_sees_twice_as_far() -> None:
    for conv, reach in ((local_conv(1, 1), 1), (GlobalLocalConv(1, 1), 2)):
        x = torch.zeros(1, 1, 1, 9, 9, requires_grad=True)
        disturb(conv).eval()(x)[..., 4, 4].sum().backward()
        seen = x.grad[0, 0, 0].nonzero() - 4
        assert seen.abs().max() == reach and len(seen) == (9 if reach == 1 else 17)


@every_convolution
@pytest.mark.parametrize("pool", [SpikePool, CurrentPool])
def test_tokenizer_equals_its_equation(convolution: str, pool: type[nn.Module]) -> None:
    model, x, lif = build(convolution, pool), images(3, 2, 2, 9, 7), former_neuron()

    def halved(sequence: Tensor) -> Tensor:
        return torch.stack([F.max_pool2d(step, 3, 2, 1) for step in sequence])

    first, _, second, _ = model.stack
    u = second(lif(first(x)))
    s = halved(lif(u)) if pool is SpikePool else lif(halved(u))
    close(model(x), halved(model.last(s)))
    assert model(x).shape == (3, 2, 5, 3, 2) and 0 < s.mean() < 1


def test_without_a_pool_at_the_end_the_currents_are_given_as_they_are() -> None:
    model = build("plain", plan=[Convolution(2, pooled=True), Convolution(5)])
    x = images(3, 2, 2, 9, 7)
    assert torch.equal(model(x), model.last(model.stack(x))) and model(x).shape == (3, 2, 5, 5, 4)


@every_convolution
def test_every_convolution_behind_the_first_stage_reads_spikes(convolution: str) -> None:
    model, read = build(convolution), []
    for name, module in model.named_modules():
        if isinstance(module, ConvBN):
            module.register_forward_pre_hook(lambda _m, i, name=name: read.append((name, i[0])))
    out = model(images(3, 2, 2, 15, 12))
    behind = [x for name, x in read if not name.startswith("stack.0")]
    assert len(behind) == (4 if convolution == "global-local" else 2)
    assert all(set(x.unique().tolist()) == {0, 1} for x in behind) and not torch.equal(out, out.round())
