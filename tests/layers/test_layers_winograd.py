"""Layers inside winograd_convolutions(): gradients up to rounding, checkpoints, quantized weights, memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bitspike.compress import BinaryWeights, apply
from bitspike.layers import ConvBN, SpikeConv2d, SpikingUnit
from bitspike.models import create_model
from bitspike.neurons import LIF
from bitspike.ops import winograd_convolutions

OPTIONS = {"num_classes": 3, "T": 2, "input_shape": (2, 8, 8), "widths": (24, 22, "A", 28)}
PREPARED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "real": lambda model: model,
    "binary": lambda model: apply(model, BinaryWeights()),
}


def spikes(channels: int = 24) -> Tensor:
    return (torch.rand(3, 5, channels, 8, 7) < 0.3).float()


def gradients(model: nn.Module, x: Tensor, context: object) -> list[Tensor]:
    model.zero_grad()
    with context:  # type: ignore[attr-defined]
        model(x).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("prepared", PREPARED)
def test_a_network_gets_the_gradients_of_torch_up_to_rounding(prepared: str) -> None:
    model = PREPARED[prepared](disturb(create_model("vggsnn", **OPTIONS))).double()
    x = torch.randint(0, 256, (5, 2, 8, 8)).double()
    exact, tiled = gradients(model, x, nullcontext()), gradients(model, x, winograd_convolutions())
    for one, other in zip(tiled, exact, strict=True):
        close(one, other, scale=100)
    assert not all(torch.equal(a, b) for a, b in zip(tiled, exact, strict=True))


def test_only_convolutions_that_qualify_change() -> None:
    x, few = spikes().flatten(0, 1), spikes(8).flatten(0, 1)
    layers = {
        SpikeConv2d(24, 24, 3, padding=1): True,
        SpikeConv2d(24, 24, 3, padding=1, padding_mode="circular"): False,
        SpikeConv2d(24, 24, 3, padding="same"): False,
        SpikeConv2d(24, 24, 3, padding=1, stride=2): False,
        SpikeConv2d(24, 24, 3, padding=1, groups=2): False,
        SpikeConv2d(24, 24, 5, padding=2): False,
        SpikeConv2d(8, 24, 3, padding=1): False,
        nn.Conv2d(24, 24, 3, padding=1): False,
    }
    for layer, changes in layers.items():
        inputs = few if layer.in_channels == 8 else x
        expected = layer(inputs)
        with winograd_convolutions():
            assert torch.equal(layer(inputs), expected) != changes, layer


def test_a_checkpointed_unit_inside_repeats_its_forward_pass() -> None:
    unit, x = disturb(SpikingUnit(LIF(), ConvBN(24, 28, 3))).double().eval(), spikes().double().requires_grad_()
    found = []
    for run in (unit, lambda y: checkpoint(unit, y, use_reentrant=False)):
        unit.zero_grad()
        x.grad = None
        with winograd_convolutions():
            run(x).square().sum().backward()
        found.append([x.grad, *(p.grad.clone() for p in unit.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("trained", ["input", "weight"])
def test_frozen_parts_get_no_gradient(trained: str) -> None:
    layer, x = SpikeConv2d(24, 24, 3, padding=1), spikes().flatten(0, 1)
    layer.requires_grad_(trained == "weight")
    x.requires_grad_(trained == "input")
    with winograd_convolutions():
        layer(x).sum().backward()
    assert (x.grad is None) == (trained == "weight") and (layer.weight.grad is None) == (trained == "input")


def test_a_unit_keeps_as_little_as_with_torch() -> None:
    unit, x = disturb(SpikingUnit(LIF(), ConvBN(24, 24, 3))), spikes().requires_grad_()
    parameters = {t.data_ptr() for t in (*unit.parameters(), *unit.buffers())}
    sizes = []
    for context in (nullcontext(), winograd_convolutions()):
        kept: list[Tensor] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t)
        with context, hooks:
            unit(x)
        sizes.append(sum(t.numel() * t.element_size() for t in kept if t.data_ptr() not in parameters))
    assert sizes[0] == sizes[1]
