from __future__ import annotations

import copy

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn

from bitspike.layers import (
    AvgPool,
    ConvBN,
    LinearBN,
    MaxPool,
    Readout,
    SequenceBatchNorm,
    SpikingUnit,
    Synapse,
    gather_current,
    mean_over_time,
)
from bitspike.layers.norm import batch_norm_affine, over_time
from bitspike.neurons import LIF

LAYERS = {
    "conv3": lambda: ConvBN(3, 4, 3),
    "conv3-stride2": lambda: ConvBN(3, 4, 3, stride=2),
    "conv5-pad0": lambda: ConvBN(3, 2, 5, padding=0),
    "conv1-groups": lambda: ConvBN(3, 6, 1, groups=3),
    "linear": lambda: LinearBN(3 * 7 * 5, 4),
    "maxpool": lambda: MaxPool(2),
    "maxpool-padded": lambda: MaxPool(3, 2, 1),
    "avgpool": lambda: AvgPool(2),
}


def both(layer: nn.Module) -> list[nn.Module]:
    disturb(layer)
    return [layer, copy.deepcopy(layer)]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_norm_equals_torch(dtype: torch.dtype, training: bool) -> None:
    ours, theirs = SequenceBatchNorm(5).to(dtype), nn.BatchNorm2d(5).to(dtype)
    for norm in (ours, theirs):
        disturb(norm, seed=3).train(training)
    for seed in range(3):
        x = torch.randn(6, 5, 3, 2, dtype=dtype, generator=torch.Generator().manual_seed(seed))
        xs = [x.clone().requires_grad_() for _ in range(2)]
        outs = [norm(value) for norm, value in zip((ours, theirs), xs, strict=True)]
        for out in outs:
            (out**3).sum().backward()
        assert torch.equal(*outs) and torch.equal(xs[0].grad, xs[1].grad)
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
    assert torch.equal(ours.weight.grad, theirs.weight.grad)


def test_batch_norm_affine_is_the_evaluation_map() -> None:
    norm = disturb(SequenceBatchNorm(4)).double().eval()
    gain, offset = batch_norm_affine(norm)
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    close(gain.view(-1, 1, 1) * x + offset.view(-1, 1, 1), norm(x))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_acts_step_by_step(name: str) -> None:
    layer = disturb(LAYERS[name]()).eval()
    x = torch.randn(3, 2, 3, 7, 5)
    together = layer(x)
    assert together.shape[:2] == (3, 2)
    for t in range(3):
        close(layer(x[t : t + 1])[0], together[t])


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", LAYERS)
def test_repeated_step_equals_materialised_sequence(name: str, training: bool) -> None:
    """Outputs, gradients and, in training, running statistics must not depend on how the repeat is stored."""
    results = []
    for layer, materialise in zip(both(LAYERS[name]()), (False, True), strict=True):
        layer.double().train(training)
        once = torch.randn(4, 3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        x = once.expand(3, *once.shape)
        out = layer(x.contiguous() if materialise else x)
        upstream = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        out.backward(upstream)
        results.append([out.detach(), once.grad, *(p.grad for p in layer.parameters()), *layer.buffers()])
    for expanded, materialised in zip(*results, strict=True):
        close(expanded.double(), materialised.double())


def test_repeated_step_is_computed_once() -> None:
    seen: list[int] = []

    def function(x: Tensor) -> Tensor:
        seen.append(len(x))
        return 2 * x

    x = torch.randn(1, 2, 3)
    close(over_time(function, x.expand(5, 2, 3)), 2 * x.expand(5, 2, 3))
    close(over_time(function, x.repeat(5, 1, 1)), 2 * x.repeat(5, 1, 1))
    assert seen == [2, 10]


@pytest.mark.parametrize("pool", [False, True], ids=["flat", "pooled"])
def test_readout(pool: bool) -> None:
    features = 3 if pool else 3 * 2 * 4
    readout = Readout(features, 7, pool=pool).double()
    spikes = (torch.rand(3, 5, 3, 2, 4) > 0.5).double()
    logits = readout(spikes)
    assert logits.shape == (3, 5, 7)
    for t in range(3):
        for n in range(5):
            vector = spikes[t, n].sum((-2, -1)) / 8 if pool else spikes[t, n].reshape(-1)
            close(logits[t, n], readout.layer.weight @ vector + readout.layer.bias)


def test_mean_over_time() -> None:
    logits = torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]]])
    assert mean_over_time(logits).tolist() == [[2.0, 4.0]]


def test_unit_adds_its_currents() -> None:
    unit = disturb(SpikingUnit(LIF(), ConvBN(3, 3, 3), nn.Identity())).eval()
    x, shortcut = torch.randn(4, 2, 3, 5, 5), (torch.rand(4, 2, 3, 5, 5) > 0.5).float()
    current = unit.currents[0](x) + shortcut
    close(gather_current(unit, (x, shortcut)), current)
    assert torch.equal(unit(x, shortcut), LIF()(current))


@pytest.mark.parametrize("given", [0, 1, 3])
def test_unit_needs_one_input_per_current(given: int) -> None:
    unit = SpikingUnit(LIF(), ConvBN(3, 3, 1), nn.Identity())
    with pytest.raises(ValueError, match=f"2 currents but was given {given}"):
        unit(*[torch.zeros(1, 1, 3, 2, 2)] * given)


def test_bare_synapse_refuses() -> None:
    with pytest.raises(TypeError, match="ConvBN or LinearBN"):
        Synapse()(torch.zeros(1))


@pytest.mark.parametrize("kernel, channels", [(3, 64), (1, 128), (7, 32)])
def test_conv_is_initialised_by_fan_out(kernel: int, channels: int) -> None:
    weight = ConvBN(48, channels, kernel).layer.weight
    assert weight.std().item() == pytest.approx((2 / (kernel**2 * channels)) ** 0.5, rel=0.05)
