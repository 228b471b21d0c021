"""Integer-valued neurons and their movable windows: training on integers equals inference on binary spikes."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import close
from torch import Tensor, nn

from bitspike.errors import ConfigError
from bitspike.neurons import (
    ASN,
    NASN,
    IntegerLIF,
    NormalizedIntegerLIF,
    observe_rates,
    resting_current,
    spike_currents,
)

FIXED = {"ilif": IntegerLIF, "nilif": NormalizedIntegerLIF}
MOVING = {"asn": ASN, "nasn": NASN}
SHIFTS = [-2.0, -0.3, 0.0, 0.4, 3.0]


def dyadic(*shape: int) -> Tensor:
    return torch.randint(-40, 90, shape, dtype=torch.float64) / 16


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("pair", [(IntegerLIF, ASN), (NormalizedIntegerLIF, NASN)], ids=["ilif-asn", "nilif-nasn"])
def test_a_window_that_has_not_moved_changes_nothing(pair: tuple[type, type], T: int, detach: bool) -> None:
    results = []
    for make in pair:
        current = (2 * torch.randn(T, 5, 7, generator=torch.Generator().manual_seed(1))).double().requires_grad_()
        out = make(3, leak=0.75, detach_reset=detach).double()(current)
        out.backward(torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out))
        results.append((out, current.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("largest", [1, 4, 5])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", MOVING)
def test_outputs_are_equally_spaced_levels_of_the_window(name: str, shift: float, largest: int) -> None:
    neuron = MOVING[name](largest, shift=shift)
    out = neuron(8 * torch.randn(3, 40, 5))
    assert neuron.rest == math.ceil(shift) and len(neuron.levels) == largest + 1
    assert torch.equal(out.unique(), torch.tensor(neuron.levels))
    step = 1 if name == "asn" else 1 / largest
    close(torch.tensor(neuron.levels).diff(), torch.full((largest,), float(step)))
    close(torch.tensor(neuron.levels[0]), torch.tensor(float(neuron.rest * step)))


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", MOVING)
def test_spikes_sum_to_the_integers_of_training(name: str, shift: float, T: int) -> None:
    neuron = MOVING[name](4, shift=shift).double()
    current = dyadic(T, 6, 5)
    spikes = neuron.spikes(current)
    assert spikes.shape == (4 * T, 6, 5) and set(spikes.unique().tolist()) == {0.0, 1.0}
    counts = spikes.unflatten(0, (T, 4)).sum(1)
    assert torch.equal((counts + neuron.rest) / neuron.divisor, neuron(current))


CONSUMERS = {
    "linear": (lambda bias: nn.Linear(6, 3, bias=bias), (5, 6)),
    "conv-padded": (lambda bias: nn.Conv2d(2, 3, 3, padding=1, bias=bias), (2, 5, 7)),
    "conv-strided": (lambda bias: nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=bias), (2, 7, 6)),
    "conv-1d": (lambda bias: nn.Conv1d(2, 3, 5, padding=2, bias=bias), (2, 9)),
}


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", MOVING)
def test_a_layer_gives_the_same_on_spikes_as_on_integers(name: str, shift: float, consumer: str, bias: bool) -> None:
    """To the last bit where sums are exact (integer weights, D = 4); within rounding for any weights and D."""
    make, shape = CONSUMERS[consumer]
    for largest, exact in ((4, True), (3, False)):
        neuron, layer = MOVING[name](largest, shift=shift).double(), make(bias).double()
        if exact:
            for parameter in layer.parameters():
                parameter.data = parameter.data.mul(40).round()
        current = dyadic(2, 3, *shape)
        trained = layer(neuron(current).flatten(0, 1)).unflatten(0, (2, 3))
        inferred = spike_currents(layer, neuron, neuron.spikes(current))
        close(inferred, trained)
        assert not exact or torch.equal(inferred, trained)


def test_the_constant_of_a_padded_convolution_differs_at_its_border() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    constant = resting_current(layer, NASN(4, shift=1.2), torch.Size((1, 4, 4)))
    assert constant[0, 0, 0] == 4 * 2 / 4 and constant[0, 1, 1] == 9 * 2 / 4


def test_a_layer_that_is_not_linear_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer is a PReLU, accepted: Conv1d, Conv2d, Conv3d, Linear"):
        spike_currents(nn.PReLU(), IntegerLIF(), torch.zeros(4, 1, 1))


@pytest.mark.parametrize("name", MOVING)
def test_gradient_of_the_current_is_one_inside_the_window_and_zero_outside(name: str) -> None:
    neuron = MOVING[name](4, shift=1.0)
    current = torch.tensor([[-3.0, 0.9, 1.0, 2.4, 5.0, 5.1]], requires_grad=True)
    neuron(current).sum().backward()
    assert (current.grad * neuron.divisor)[0].tolist() == [0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("name", MOVING)
def test_gradient_of_the_shift_counts_what_lies_outside(name: str, scale: float | None) -> None:
    neuron = MOVING[name](4, gradient_scale=scale)
    inside, outside = torch.tensor([[0.0, 2.2, 4.0]]), torch.tensor([[-2.0, 7.0, 9.0]])
    neuron(inside).sum().backward()
    assert neuron.shift.grad == 0
    neuron(outside).sum().backward()
    expected = (scale if scale is not None else 1 / math.sqrt(3 * 4)) * 3 / neuron.divisor
    close(neuron.shift.grad, torch.tensor(expected))


def test_the_window_follows_its_input() -> None:
    """Regression of inputs around 5 with D = 4: the shift rises, and the loss ends below that of a window at 0."""
    current = 5 + torch.randn(1, 400)

    def loss(neuron: IntegerLIF) -> Tensor:
        return (neuron(current) - current).square().mean()

    neuron = ASN(4, gradient_scale=1.0)
    optimizer = torch.optim.SGD(neuron.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(neuron).backward()
        optimizer.step()
    assert neuron.shift > 1 and loss(neuron) < 0.5 * loss(IntegerLIF(4))


@pytest.mark.parametrize("name", MOVING)
def test_exactly_one_parameter_more(name: str) -> None:
    assert [p.numel() for p in MOVING[name]().parameters()] == [1]
    assert not list({"asn": IntegerLIF, "nasn": NormalizedIntegerLIF}[name]().parameters())


@pytest.mark.parametrize("make", [*FIXED.values(), *MOVING.values()])
def test_the_leak_matters_from_the_second_step_on(make: type[IntegerLIF]) -> None:
    current = 6 * torch.rand(2, 400)
    slow, fast = make(leak=0.9)(current), make(leak=0.1)(current)
    assert torch.equal(slow[0], fast[0]) and not torch.equal(slow[1], fast[1])
    assert torch.equal(make(leak=0.9)(current[:1]), make(leak=0.1)(current[:1]))


@pytest.mark.parametrize("make", [*FIXED.values(), lambda: ASN(shift=2.0), lambda: NASN(3, shift=-2.5)])
def test_the_firing_rate_is_the_share_of_micro_steps_that_fire(make: type[IntegerLIF]) -> None:
    model = nn.Sequential(make())
    current = 3 * torch.randn(3, 50, 4)
    with observe_rates(model) as rates:
        model(current)
    close(rates[0].rate, model[0].spikes(current).mean())


def test_the_divisor_may_be_chosen() -> None:
    assert NormalizedIntegerLIF(4, divisor=2).levels == (0, 0.5, 1, 1.5, 2)
    assert NASN(3).divisor == 3 and NASN(3, divisor=1).levels == ASN(3).levels


BAD = {
    "largest": (lambda: IntegerLIF(0), "largest is 0, accepted: 1 or more"),
    "leak": (lambda: NASN(leak=1.5), "leak is 1.5, accepted: 0 to 1"),
    "leak-nan": (lambda: IntegerLIF(leak=float("nan")), "leak is nan, accepted: 0 to 1"),
    "divisor": (lambda: NormalizedIntegerLIF(divisor=0), "divisor is 0, accepted: 1 or more"),
    "divisor-nasn": (lambda: NASN(divisor=-1), "divisor is -1, accepted: 1 or more"),
    "shift": (lambda: ASN(shift=float("inf")), "shift is inf, accepted: a finite number"),
    "scale": (lambda: ASN(gradient_scale=-1.0), "gradient_scale is -1.0, accepted: 0 or more"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        make()
