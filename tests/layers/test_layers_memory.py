"""What layers keep for backward: one float per neuron and step and its bit, and no copy of the current."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn

from bitspike.compress import BinaryWeights, apply
from bitspike.errors import BitspikeError
from bitspike.layers import AvgPool, ConvBN, LinearBN, MaxPool, SpikeConv2d, SpikeLinear, SpikingUnit
from bitspike.models import create_model
from bitspike.neurons import LIF
from bitspike.ops import made_again, rebuild_of, rebuildable, reference_only

UNITS: dict[str, Callable[[], SpikingUnit]] = {
    "conv": lambda: SpikingUnit(LIF(), ConvBN(4, 4, 3)),
    "linear": lambda: SpikingUnit(LIF(), LinearBN(4 * 6 * 6, 4)),
    "shortcut": lambda: SpikingUnit(LIF(), ConvBN(4, 4, 3), nn.Identity()),
    "two": lambda: SpikingUnit(LIF(), ConvBN(4, 4, 3), ConvBN(4, 4, 1)),
}


def spikes(steps: int = 3, samples: int = 5) -> Tensor:
    return (torch.rand(steps, samples, 4, 6, 6) < 0.3).float()


def kept(unit: nn.Module, *inputs: Tensor) -> int:
    """Bytes of activations that autograd keeps."""
    seen = {p.data_ptr() for p in unit.parameters()} | {b.data_ptr() for b in unit.buffers()}
    total = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal total
        if tensor.data_ptr() not in seen and tensor.numel() > 16:
            total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        unit(*inputs).sum().backward()
    return total


def test_a_unit_keeps_one_float_and_one_bit_per_neuron_and_step() -> None:
    unit, x = disturb(SpikingUnit(LIF(), ConvBN(4, 4, 3))), spikes().requires_grad_()
    assert unit.neuron.backend(torch.zeros(1, 1)).name != "reference"
    assert kept(unit, x) == 4 * x.numel() + (x.numel() + 7) // 8


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("expanded", [False, True], ids=["frames", "static"])
@pytest.mark.parametrize("name", UNITS)
def test_currents_made_again_give_the_gradients_of_kept_ones(name: str, expanded: bool, training: bool) -> None:
    unit = disturb(UNITS[name]()).double().train(training)
    other = copy.deepcopy(unit)
    x = spikes().double()
    x = x[:1].expand(3, *x.shape[1:]) if expanded else x
    results = []
    for which, context in ((unit, None), (other, reference_only())):
        y = x.detach().requires_grad_()
        inputs = [y] * len(which.currents)
        if context is None:
            out = which(*inputs)
        else:
            with context:
                out = which(*inputs)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
        results.append(
            [out.detach(), y.grad, *(p.grad for p in which.parameters()), *(b.double() for b in which.buffers())]
        )
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs)


def test_a_weight_changed_before_backward_is_noticed() -> None:
    unit = SpikingUnit(LIF(), ConvBN(4, 4, 3))
    loss = unit(spikes()).sum()
    with torch.no_grad():
        unit.currents[0].norm.weight.mul_(2)
    with pytest.raises((BitspikeError, RuntimeError), match=r"in place|inplace"):
        loss.backward()


def test_only_views_of_the_whole_are_made_again() -> None:
    x = torch.randn(4, 6, requires_grad=True).double() * 2
    calls: list[int] = []
    marked = rebuildable(x, lambda: (calls.append(1), x.detach().clone())[1])
    with made_again(marked):
        whole, part = (marked.view(-1) ** 2).sum(), (marked[1] ** 2).sum()
    assert rebuild_of(marked) is not None and rebuild_of(marked.view(-1)) is None
    (gradient,) = torch.autograd.grad(whole + part, x)
    expected = 2 * x.detach()
    expected[1] *= 2
    assert len(calls) == 1 and torch.equal(gradient, expected)


@pytest.mark.parametrize("pool", [AvgPool(2), MaxPool(2), MaxPool(3, 2, 1)], ids=repr)
def test_pools_equal_those_of_torch(pool: nn.Module) -> None:
    theirs = {AvgPool: nn.AvgPool2d, MaxPool: nn.MaxPool2d}[type(pool)]
    x, y = (spikes().requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    options = (pool.kernel_size, pool.stride, pool.padding)
    ours, expected = pool(x), theirs(*options)(y.flatten(0, 1)).unflatten(0, y.shape[:2])
    for out in (ours, expected):
        (out**2 + out).sum().backward()
    assert torch.equal(ours, expected) and torch.equal(x.grad, y.grad)


def test_quantized_weights_get_the_gradients_of_plain_layers() -> None:
    options = {"num_classes": 3, "T": 2, "input_shape": (2, 8, 8), "widths": (4, "A", 6, "M")}
    model = apply(disturb(create_model("vggsnn", **options)), BinaryWeights()).double()
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if isinstance(module, SpikeConv2d):
            module._conv_forward = nn.Conv2d._conv_forward.__get__(module)  # type: ignore[method-assign]
    x = torch.randint(0, 256, (5, 2, 8, 8)).double()
    for which in (model, plain):
        which(x).square().sum().backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        close(a.grad, b.grad)


def test_channels_stand_last_from_the_first_convolution_on() -> None:
    unit, pool = SpikingUnit(LIF(), ConvBN(4, 4, 3)), AvgPool(2)
    out = pool(unit(spikes()))
    assert out.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("steps", "samples"), [(1, 5), (3, 0), (1, 1)])
def test_one_step_and_empty_batches_pass(steps: int, samples: int) -> None:
    unit, x = SpikingUnit(LIF(), ConvBN(4, 4, 3)).eval(), spikes(steps, samples).requires_grad_()
    unit(x).sum().backward()
    assert x.grad.shape == x.shape


def test_layers_are_torch_layers_with_torch_states() -> None:
    for ours, theirs in ((SpikeConv2d(2, 3, 3), nn.Conv2d(2, 3, 3)), (SpikeLinear(4, 3), nn.Linear(4, 3))):
        assert isinstance(ours, type(theirs)) and ours.state_dict().keys() == theirs.state_dict().keys()


def test_torch_compiles_the_layers_in_one_graph() -> None:
    unit = SpikingUnit(LIF(), ConvBN(4, 4, 3)).eval()
    compiled, x = torch.compile(unit, backend="aot_eager", fullgraph=True), spikes()
    x, y = x.clone().requires_grad_(), x.clone().requires_grad_()
    outs = compiled(x), unit(y)
    for out in outs:
        out.sum().backward()
    close(outs[0], outs[1])
    close(x.grad, y.grad)
