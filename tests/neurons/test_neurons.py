"""Every registered neuron: a sequence equals its steps, silence stays silent, nothing is remembered between calls."""

from __future__ import annotations

import inspect
import itertools

import pytest
import torch
from helpers import MEMBRANES, close
from torch import nn

from bitspike.compress import DynamicTanhMembrane, PowerOfTwoMembrane
from bitspike.errors import ConfigError
from bitspike.neurons import LIF, NEURONS, PLIF, FiringRate, Neuron, observe_rates, register_neuron
from bitspike.ops import SURROGATES, ATan

LEAKS = {"lif": [{}, {"leak": 0.9}, {"leak_shift": 2}], "plif": [{}, {"initial_tau": 3.0}]}
RULES = [
    {"reset": reset, "detach_reset": detach, "decay_input": decay}
    for reset, detach, decay in itertools.product(("hard", "soft"), (False, True), (False, True))
]


def accepted(name: str, options: dict) -> dict:
    return {key: value for key, value in options.items() if key in inspect.signature(NEURONS[name]).parameters}


def build(name: str, membrane: str = "full", **options) -> Neuron:
    return NEURONS[name](**accepted(name, options | {"membrane": MEMBRANES[membrane]()}))


OPTIONS = {  # by test id, which also drops what is the same for a neuron that does not know an option
    "-".join([name, *(f"{k}={v}" for k, v in accepted(name, leak | rule).items())]): (name, accepted(name, leak | rule))
    for name in NEURONS
    for leak in LEAKS.get(name, [{}])
    for rule in RULES
}
CASES = [pytest.param(name, options, id=key) for key, (name, options) in OPTIONS.items()]


@pytest.mark.parametrize("membrane", MEMBRANES)
@pytest.mark.parametrize("name, options", CASES)
def test_sequence_equals_steps(name: str, options: dict, membrane: str) -> None:
    neuron = build(name, membrane, time_steps=5, **options)
    current = (0.9 + 3 * torch.randn(5, 3, 2, 3)) * (8 if options.get("decay_input") else 1)
    spikes = neuron(current)
    if not neuron.causal:
        with pytest.raises(TypeError, match="cannot be stepped"):
            neuron.step(current[0])
        return
    state, steps = None, []
    for x in current:
        s, state = neuron.step(x, state)
        steps.append(s)
    assert torch.equal(torch.stack(steps), spikes)
    assert set(spikes.unique().tolist()) == set(neuron.levels)


@pytest.mark.parametrize("name, options", CASES)
def test_gradient_by_sequence_equals_gradient_by_steps(name: str, options: dict) -> None:
    neuron = build(name, "pow2-5", **options).double()
    upstream = torch.randn(4, 3, 5, dtype=torch.float64)
    gradients = []
    for stepwise in (False, True):
        current = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        neuron.zero_grad()
        if stepwise and neuron.causal:
            state, steps = None, []
            for x in current:
                s, state = neuron.step(x, state)
                steps.append(s)
            torch.stack(steps).backward(upstream)
        else:
            neuron(current).backward(upstream)
        gradients.append([current.grad, *(p.grad for p in neuron.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert one.isfinite().all() and one.abs().max() > 0
        close(one, other)


@pytest.mark.parametrize("membrane", MEMBRANES)
@pytest.mark.parametrize("name", NEURONS)
def test_point_06_silence(name: str, membrane: str) -> None:
    """Once the current has stopped, a neuron with leak 1/2, hard reset and threshold 1 never fires again.

    With hard reset a carry is at most the threshold; quantizers may round up, but not past 2 thresholds. Neurons without
    such a reset declare that they echo.
    """
    neuron = build(name, membrane, time_steps=16)
    current = torch.cat([3 * torch.randn(4, 64, 5), torch.zeros(12, 64, 5)])
    spikes = neuron(current)
    assert spikes[:4].any() and (neuron.echoes or not spikes[4:].any())


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_that_declares_that_it_echoes_does(name: str) -> None:
    neuron = build(name, time_steps=6)
    current = torch.cat([100 * torch.randn(3, 64, 5), torch.zeros(3, 64, 5)])
    assert neuron(current)[3:].any() == neuron.echoes


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_point_06_released_membrane_stays_below_half_the_threshold(bits: int) -> None:
    neuron = LIF(membrane=DynamicTanhMembrane(bits))
    state = None
    for _ in range(6):
        _, state = neuron.step(5 * torch.randn(40, 7), state)
        assert (neuron.leak * state).abs().max() <= 0.5 < neuron.threshold


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("membrane", MEMBRANES)
@pytest.mark.parametrize("name, options", CASES[::3])
def test_nothing_leaks_between_calls(name: str, options: dict, membrane: str, mode: str) -> None:
    neuron = build(name, membrane, **options).train(mode == "train")
    current = torch.randn(4, 3, 5)
    first = neuron(current)
    neuron(10 + torch.randn(neuron.time_steps or 7, 2, 5))
    assert torch.equal(neuron(current), first)


@pytest.mark.parametrize("membrane", [m for m in MEMBRANES if "dynamic" not in m])
@pytest.mark.parametrize("name", NEURONS)
def test_spikes_do_not_depend_on_neighbours(name: str, membrane: str) -> None:
    neuron = build(name, membrane)
    current = torch.randn(4, 6, 5)
    order = torch.tensor([4, 0, 5])
    assert torch.equal(neuron(current[:, order]), neuron(current)[:, order])


@pytest.mark.parametrize("shape", [(0, 2, 3), (3, 0, 3), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("membrane", MEMBRANES)
@pytest.mark.parametrize("name", NEURONS)
def test_empty_and_short_input(name: str, membrane: str, shape: tuple[int, ...]) -> None:
    neuron = build(name, membrane)
    shape = (neuron.time_steps or shape[0], *shape[1:])
    spikes = neuron(torch.zeros(shape))
    assert spikes.shape == shape and not spikes.any()


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("name", [n for n in NEURONS if "surrogate" in inspect.signature(NEURONS[n]).parameters])
def test_surrogate_is_passed_on(name: str, surrogate: str) -> None:
    """Spikes change where the membrane crosses 1, and -1 where there are negative ones."""
    slope = SURROGATES[surrogate]()
    neuron = build(name, surrogate=slope).double()
    current = torch.randn(neuron.time_steps or 1, 9, dtype=torch.float64, requires_grad=True)
    neuron(current).sum().backward()
    membranes = neuron.membranes(current)
    by_membrane = slope.derivative(membranes.detach() - 1)
    if min(neuron.levels) < 0:
        by_membrane += slope.derivative(membranes.detach() + 1)
    close(current.grad, torch.autograd.grad(membranes, current, by_membrane)[0])


@pytest.mark.parametrize("tau", [1.5, 2.0, 5.0])
def test_plif_leak_is_one_minus_inverse_tau_and_learns(tau: float) -> None:
    neuron = PLIF(tau).double()
    plain = LIF(1 - 1 / tau)
    current = 0.4 + torch.randn(6, 20, dtype=torch.float64)
    spikes = neuron(current)
    assert torch.equal(spikes, plain(current))
    spikes.sum().backward()
    assert neuron.w.grad.isfinite() and neuron.w.grad != 0


@pytest.mark.parametrize("decay", [False, True])
def test_plif_gradient_is_that_of_the_carried_membrane(decay: bool) -> None:
    """Two steps by hand: u2 = (1 - g) g' x1 + g' x2 with g = sigmoid(w), g' = g if the input decays, else 1."""
    neuron = PLIF(2.5, decay_input=decay, detach_reset=True).double()
    x = torch.tensor([[0.5], [0.7]], dtype=torch.float64)
    neuron(x)[1].sum().backward()
    w = neuron.w.detach().clone().requires_grad_()
    g = torch.sigmoid(w)
    gain = g if decay else 1
    u2 = (1 - g) * gain * x[0] + gain * x[1]
    u2.sum().backward()
    close(neuron.w.grad, w.grad * (1 - (u2.detach() - 1).abs()).squeeze())


def test_decay_input_drives_towards_the_input() -> None:
    neuron = LIF(0.8, decay_input=True, threshold=2.0)
    state = None
    for _ in range(60):
        _, state = neuron.step(torch.tensor([1.5]), state)
    assert state.item() == pytest.approx(1.5, abs=1e-4)


@pytest.mark.parametrize("shift", [1, 2, 5])
def test_leak_shift_sets_the_leak(shift: int) -> None:
    neuron = LIF(leak_shift=shift, membrane=PowerOfTwoMembrane(8, -6))
    assert neuron.leak == 1 - 2.0**-shift
    _, carry = neuron.step(torch.tensor([-0.9]), None)
    level = round(carry.item() * 64)
    _, carried = neuron.step(torch.tensor([0.0]), carry)
    assert carried.item() * 64 == level - (level >> shift)


BAD = {
    "lif-leak-above": (LIF, {"leak": 1.5}, "leak is 1.5, accepted: 0 to 1"),
    "lif-leak-negative": (LIF, {"leak": -0.1}, "leak is -0.1, accepted"),
    "lif-leak-nan": (LIF, {"leak": float("nan")}, "leak is nan, accepted"),
    "lif-two-leaks": (LIF, {"leak": 0.25, "leak_shift": 3}, "leak 0.25 and leak_shift 3"),
    "lif-shift-zero": (LIF, {"leak_shift": 0}, "leak_shift is 0, accepted: 1 to 15"),
    "lif-shift-large": (LIF, {"leak_shift": 16}, "leak_shift is 16, accepted: 1 to 15"),
    "plif-tau": (PLIF, {"initial_tau": 1.0}, "initial_tau is 1.0, accepted: above 1"),
    "plif-tau-nan": (PLIF, {"initial_tau": float("nan")}, "initial_tau is nan, accepted: above 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case: str) -> None:
    neuron, options, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        neuron(**options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"threshold": 0.0}, "threshold is 0.0, accepted: above 0"),
        ({"threshold": -1.0}, "threshold is -1.0, accepted: above 0"),
        ({"threshold": float("nan")}, "threshold is nan, accepted: above 0"),
        ({"reset": "medium"}, "reset is 'medium', accepted: hard, soft"),
    ],
    ids=["zero", "negative", "nan", "reset"],
)
@pytest.mark.parametrize("name", ["lif", "plif"])
def test_bad_shared_arguments(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NEURONS[name](**options)


def test_registry() -> None:
    assert {"lif": LIF, "plif": PLIF}.items() <= NEURONS.items()
    assert all(issubclass(cls, Neuron) for cls in NEURONS.values())

    @register_neuron("for-this-test")
    class Extra(Neuron):
        pass

    try:
        assert NEURONS["for-this-test"] is Extra
        with pytest.raises(TypeError, match="Extra looks at the whole sequence and cannot be stepped"):
            Extra().step(torch.zeros(1))
    finally:
        del NEURONS["for-this-test"]


def test_observe_rates_collects_in_order_with_gradient_and_leaves_no_hook() -> None:
    model = nn.Sequential(LIF(), nn.Sequential(LIF(surrogate=ATan())))
    current = (1 + torch.randn(3, 4, 5)).requires_grad_()
    with observe_rates(model) as rates:
        out = model(current)
    assert [r.name for r in rates] == ["0", "1.0"] and all(isinstance(r, FiringRate) for r in rates)
    close(rates[1].rate, out.mean())
    rates[0].rate.backward()
    assert current.grad.abs().max() > 0
    model(current)
    assert len(rates) == 2


def test_observe_rates_removes_its_hooks_after_an_error() -> None:
    model = nn.Sequential(LIF())
    with pytest.raises(RuntimeError, match="on purpose"), observe_rates(model) as rates:
        raise RuntimeError("on purpose")
    model(torch.zeros(2, 1))
    assert rates == []


def test_rates_of_half_precision_spikes_are_exact() -> None:
    model = nn.Sequential(LIF())
    current = torch.zeros(1, 4099, dtype=torch.bfloat16)
    current[0, :1025] = 2
    with observe_rates(model) as rates:
        model(current)
    assert rates[0].rate.dtype == torch.float32 and rates[0].rate.item() == pytest.approx(1025 / 4099, rel=1e-6)
