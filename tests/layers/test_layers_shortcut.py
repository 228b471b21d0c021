from __future__ import annotations

import pytest
import torch
from helpers import close
from torch import nn
from torch.nn import functional as F

from bitspike.errors import ConfigError
from bitspike.layers import ChannelShortcut, ConvBN, SpikingUnit
from bitspike.neurons import LIF

SHAPES = [(3, 3, 1), (3, 4, 1), (4, 8, 2), (3, 8, 2), (2, 7, 3)]


def test_channels_stand_in_the_middle() -> None:
    assert ChannelShortcut(3, 8).sources.tolist() == [-1, -1, 0, 1, 2, -1, -1, -1]
    assert ChannelShortcut(2, 4, 2).sources.tolist() == [-1, 0, 1, -1]


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 2)], ids=str)
@pytest.mark.parametrize("channels, out, stride", SHAPES)
def test_equals_padding_a_subsampled_map_and_its_own_convolution(channels, out, stride, size) -> None:
    shortcut = ChannelShortcut(channels, out, stride)
    x = torch.rand(3, 2, channels, *size, dtype=torch.float64, requires_grad=True)
    before = (out - channels) // 2
    expected = F.pad(x[..., ::stride, ::stride], (0, 0, 0, 0, before, out - channels - before))
    assert torch.equal(shortcut(x), expected)
    convolved = F.conv2d(x.flatten(0, 1), shortcut.weight().double(), stride=stride).unflatten(0, (3, 2))
    assert torch.equal(convolved, expected)
    upstream = torch.randn_like(expected)
    for ours, theirs in zip(*(torch.autograd.grad(y, x, upstream) for y in (shortcut(x), expected)), strict=True):
        close(ours, theirs)


def test_weight_follows_the_sources() -> None:
    shortcut = ChannelShortcut(2, 3)
    shortcut.sources = torch.tensor([1, -1, 1])
    assert shortcut.weight().flatten(1).tolist() == [[0, 1], [0, 0], [0, 1]]
    x = torch.rand(1, 1, 2, 3, 3)
    assert torch.equal(shortcut(x)[0, 0], torch.stack([x[0, 0, 1], torch.zeros(3, 3), x[0, 0, 1]]))


def test_sources_travel_with_the_weights_and_nothing_is_trained() -> None:
    shortcut = ChannelShortcut(2, 4)
    assert list(shortcut.state_dict()) == ["sources"] and not list(shortcut.parameters())


def test_adds_to_the_current_of_a_unit() -> None:
    unit = SpikingUnit(LIF(), ConvBN(3, 6, 3, stride=2), ChannelShortcut(3, 6, 2)).eval()
    x = (torch.rand(2, 2, 3, 7, 6) > 0.5).float()
    assert torch.equal(unit(x, x), LIF()(unit.currents[0](x) + unit.currents[1](x)))


@pytest.mark.parametrize("arguments", [(4, 3), (0, 3), (2, 2, 0)], ids=str)
def test_unusable_shapes(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"ChannelShortcut .*accepted"):
        ChannelShortcut(*arguments)


@pytest.mark.parametrize("bias", [False, True])
def test_convolution_with_a_bias(bias: bool) -> None:
    synapse = ConvBN(3, 4, 3, bias=bias).eval()
    assert (synapse.layer.bias is not None) == bias
    if synapse.layer.bias is not None:
        assert not synapse.layer.bias.any()
        nn.init.normal_(synapse.layer.bias)
        x = torch.randn(2, 1, 3, 5, 5)
        plain = synapse(x)
        synapse.layer.bias.data.zero_()
        assert not torch.allclose(plain, synapse(x))
