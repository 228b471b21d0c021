"""Parallel spiking neurons: a learned linear map over time, its mask, its causality, its gradients."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from helpers import close, disturb, small_options
from torch import Tensor, nn

from bitspike.errors import ConfigError
from bitspike.models import create_model
from bitspike.neurons import LIF, PSN, MaskedPSN, Neuron, SlidingPSN, set_mask_progress
from bitspike.ops import ATan, LifRule, lif_scan, multiplicative_leak


def dyadic(*shape: int) -> Tensor:
    """Multiples of 1/8: with weights that are powers of two, short sums are exact in whatever order."""
    return torch.randint(-24, 25, shape, dtype=torch.float64) / 8


def with_weight(neuron: PSN, weight: Tensor) -> PSN:
    neuron = neuron.to(weight.dtype)
    with torch.no_grad():
        neuron.weight.copy_(weight)
    return neuron


def dependence(neuron: Neuron, T: int) -> Tensor:
    """(T, T): whether spike t has a gradient with respect to current j."""
    current = torch.randn(T, 1, dtype=torch.float64, requires_grad=True)
    spikes = neuron.double()(current)
    return torch.stack([torch.autograd.grad(s, current, retain_graph=True)[0][:, 0] != 0 for s in spikes[:, 0]])


def band(T: int, order: int) -> Tensor:
    ones = torch.ones(T, T, dtype=torch.bool)
    return ones.tril() & ~ones.tril(-order)


@pytest.mark.parametrize("T", [1, 4, 9])
@pytest.mark.parametrize("leak, gain", [(0.5, 0.5), (1.0, 1.0)], ids=["lif-tau-2", "if"])
def test_with_the_kernel_of_a_lif_it_is_a_lif_without_reset(leak: float, gain: float, T: int) -> None:
    lag = torch.arange(T)[:, None] - torch.arange(T)
    kernel = torch.where(lag >= 0, gain * leak ** lag.clamp_min(0), torch.zeros(())).double()
    current = dyadic(T, 40, 7)
    rule = LifRule(multiplicative_leak(leak), reset=lambda u, s, v: u)
    spikes = with_weight(PSN(T), kernel)(current)
    assert torch.equal(spikes, lif_scan(gain * current, rule)) and spikes.any() and not spikes.all()


@pytest.mark.parametrize("T", [1, 3, 6])
def test_gradients_are_products_with_the_surrogate(T: int) -> None:
    neuron = PSN(T, threshold=0.25).double()
    current = torch.randn(T, 5, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(T, 5, 3, dtype=torch.float64)
    neuron(current).backward(upstream)
    x, w = current.detach().flatten(1), neuron.weight.detach()
    g = upstream.flatten(1) * ATan(2.0).derivative(w @ x - 0.25)
    close(current.grad.flatten(1), w.T @ g)
    close(neuron.weight.grad, g @ x.T)
    close(neuron.threshold.grad, -g.sum(1))


def test_every_step_has_its_own_threshold() -> None:
    neuron = with_weight(PSN(3), torch.eye(3))
    with torch.no_grad():
        neuron.threshold.copy_(torch.tensor([0.5, 1.0, 2.0]))
    assert neuron(torch.full((3, 1), 1.5))[:, 0].tolist() == [1, 1, 0]


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_mask_takes_away_what_lies_outside_the_band(order: int, progress: float) -> None:
    masked = with_weight(MaskedPSN(5, order=order, progress=progress), dyadic(5, 5))
    current = dyadic(5, 6, 3)
    inside = band(5, order).double()
    plain = with_weight(PSN(5), masked.weight.detach() * (progress * inside + 1 - progress))
    assert torch.equal(masked.masked_weight(), plain.weight)
    assert torch.equal(masked.membranes(current), plain.membranes(current))
    assert torch.equal(masked(current), plain(current))


def test_an_open_mask_is_a_psn_and_a_closed_one_of_full_order_is_lower_triangular() -> None:
    weight, current = torch.randn(6, 6), torch.randn(6, 4, 3)
    assert torch.equal(with_weight(MaskedPSN(6, progress=0.0), weight)(current), with_weight(PSN(6), weight)(current))
    close(
        with_weight(MaskedPSN(6, order=6), weight).membranes(current),
        with_weight(PSN(6), weight.tril()).membranes(current),
    )
    close(with_weight(MaskedPSN(6, order=1), weight).membranes(current), weight.diagonal().view(6, 1, 1) * current)


@pytest.mark.parametrize("order", [1, 3, 7])
def test_spikes_depend_on_the_last_steps_only_where_the_neuron_says_so(order: int) -> None:
    assert torch.equal(dependence(MaskedPSN(7, order=order), 7), band(7, order))
    assert torch.equal(dependence(SlidingPSN(order), 7), band(7, order))
    assert dependence(PSN(7), 7).all() and dependence(MaskedPSN(7, order=order, progress=0.5), 7).all()


def test_what_is_not_causal_says_so_and_refuses_to_step() -> None:
    assert not PSN(3).causal and not MaskedPSN(3, progress=0.9).causal
    assert MaskedPSN(3).causal and SlidingPSN().causal
    with pytest.raises(TypeError, match=r"^PSN looks at the whole sequence and cannot be stepped"):
        PSN(3).step(torch.zeros(2))
    with pytest.raises(
        TypeError, match=r"cannot be stepped while its mask is open .progress is 0.9.; set_mask_progress"
    ):
        MaskedPSN(3, progress=0.9).step(torch.zeros(2))


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_masked_steps_have_the_membranes_of_the_sequence_bit_for_bit(order: int) -> None:
    neuron, current, state = MaskedPSN(6, order=order), 3 * torch.randn(6, 5, 3), None
    neuron.threshold.data = torch.linspace(-0.5, 0.5, 6)
    for x, expected in zip(current, neuron(current), strict=True):
        spikes, state = neuron.step(x, state)
        assert torch.equal(spikes, expected)
    with pytest.raises(ConfigError, match="this is step 7, accepted: 1 to 6, the time_steps of this MaskedPSN"):
        neuron.step(current[0], state)


def test_mask_closes_with_training_and_stays_closed() -> None:
    model = nn.Sequential(MaskedPSN(4), nn.Sequential(MaskedPSN(4, order=1), PSN(4)))
    for progress, expected in ((0.0, 0.0), (1 / 16, 0.5), (0.125, 1.0), (0.9, 1.0)):
        set_mask_progress(model, progress)
        assert [m.progress for m in model.modules() if isinstance(m, MaskedPSN)] == [expected] * 2
    set_mask_progress(model, 0.25, closed_at=0.5)
    assert model[0].progress == 0.5


def test_progress_of_the_mask_travels_with_the_weights() -> None:
    source, target = MaskedPSN(4, progress=0.3), MaskedPSN(4)
    target.load_state_dict(source.state_dict())
    current = torch.randn(4, 9)
    assert target.progress == 0.3 and torch.equal(target(current), source(current))


@pytest.mark.parametrize("neuron", [PSN(4), MaskedPSN(4), MaskedPSN(4, progress=0.0)], ids=repr)
@pytest.mark.parametrize("T", [0, 3, 5])
def test_another_number_of_steps_is_refused(neuron: PSN, T: int) -> None:
    with pytest.raises(ConfigError, match=f"the sequence has {T} steps, accepted: 4, the time_steps of this .*PSN"):
        neuron(torch.zeros(T, 2))


@pytest.mark.parametrize("T", [1, 4, 7])
def test_parameters_per_layer(T: int) -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(PSN(T)) == count(MaskedPSN(T, order=1)) == T * T + T
    assert count(SlidingPSN(T)) == T + 1


def test_a_residual_network_of_17_neuron_layers_gains_340_parameters() -> None:
    options = small_options("resnet18") | {"T": 4, "blocks": (2, 2, 2, 2)}
    plain, parallel = (create_model("resnet18", neuron=neuron, **options) for neuron in (LIF, partial(PSN, 4)))
    assert sum(isinstance(m, PSN) for m in parallel.modules()) == 17
    counts = [sum(p.numel() for p in model.parameters()) for model in (parallel, plain)]
    assert counts[0] - counts[1] == 340


def test_start_of_training() -> None:
    torch.manual_seed(3)
    weights = torch.cat([PSN(9).weight.detach().flatten() for _ in range(50)])
    assert weights.abs().max() <= 1 / 3 and weights.abs().max() > 0.33 and weights.mean().abs() < 0.01
    assert torch.equal(PSN(9).threshold, torch.ones(9))


@pytest.mark.parametrize("name", ["vggsnn", "resnet20"])
def test_models_train_with_parallel_neurons(name: str) -> None:
    options = small_options(name)
    model = disturb(create_model(name, neuron=partial(MaskedPSN, options["T"], progress=0.0), **options))
    model(torch.randint(0, 256, (3, *options["input_shape"]), dtype=torch.uint8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


BAD = {
    "time-steps": (lambda: PSN(0), "time_steps is 0, accepted: 1 or more"),
    "threshold": (lambda: PSN(3, threshold=0.0), "threshold is 0.0, accepted: above 0"),
    "threshold-nan": (lambda: PSN(3, threshold=float("nan")), "threshold is nan, accepted: above 0"),
    "order-0": (lambda: MaskedPSN(3, order=0), "order is 0, accepted: 1 to 3"),
    "order-4": (lambda: MaskedPSN(3, order=4), "order is 4, accepted: 1 to 3"),
    "mask": (lambda: MaskedPSN(3, progress=1.5), "mask progress is 1.5, accepted: 0 to 1"),
    "progress": (lambda: set_mask_progress(MaskedPSN(3), -0.1), "progress is -0.1, accepted: 0 to 1"),
    "closed": (lambda: set_mask_progress(MaskedPSN(3), 0.1, closed_at=0.0), "closed_at is 0.0, accepted: above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        make()
