"""What every registered neuron owes the parts that use neurons: models, compression and deployment."""

from __future__ import annotations

import pytest
import torch
from helpers import disturb, small_options
from torch import nn

from bitspike import compress, deploy
from bitspike.errors import ConfigError, LoweringError
from bitspike.models import create_model
from bitspike.neurons import ASN, LIF, NEURONS, PSN, MaskedPSN, Neuron, ReachingLIF, SlidingPSN, observe_rates

OPTIONS = small_options("vggsnn") | {"T": 4}
PARALLEL = [PSN, MaskedPSN, SlidingPSN]


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return disturb(create_model("vggsnn", neuron=NEURONS[name], **OPTIONS))


def samples(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, *OPTIONS["input_shape"]), dtype=torch.uint8)


@pytest.mark.parametrize("name", NEURONS)
def test_a_network_of_it_trains(name: str) -> None:
    model = network(name)
    with observe_rates(model) as rates:
        model(samples(6)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert next(model.parameters()).grad.any(), "the gradient reaches the first layer"
    assert all(0 <= r.rate <= 1 for r in rates)


@pytest.mark.parametrize("name", NEURONS)
def test_a_network_of_it_goes_through_a_state_dict(name: str) -> None:
    source, target = network(name).eval(), create_model("vggsnn", neuron=NEURONS[name], **OPTIONS).eval()
    target.load_state_dict(source.state_dict())
    x = samples(3)
    assert torch.equal(source(x), target(x))


@pytest.mark.parametrize("name", [n for n, cls in NEURONS.items() if cls not in (LIF, ReachingLIF)])
def test_deployment_refuses_it_by_name_with_the_reason(name: str) -> None:
    model = network(name)
    compress.apply(model, compress.QPSNN(weight_bits=4, edge_bits=8))
    kind = NEURONS[name].__name__
    layer = next(path for path, module in model.named_modules() if isinstance(module, Neuron)).removesuffix(".neuron")
    with pytest.raises(LoweringError, match=f"'{layer}' is a {kind}: only LIF with a power-of-two leak is exact"):
        deploy.compile(model.eval(), samples(2))


@pytest.mark.parametrize("name", NEURONS)
def test_resting_and_causal_neurons_say_the_same_of_every_length(name: str) -> None:
    """A causal neuron's first spikes do not change with what comes later, unless its length is fixed."""
    neuron = NEURONS[name]()
    T = neuron.time_steps or 6
    current = 2 * torch.randn(T, 5, 3)
    changed = torch.cat([current[: T // 2], 2 * torch.randn(T - T // 2, 5, 3)])
    same = torch.equal(neuron(current)[: T // 2], neuron(changed)[: T // 2])
    assert same == neuron.causal
    if neuron.causal and neuron.time_steps is None:
        assert torch.equal(neuron(current[: T // 2]), neuron(current)[: T // 2])


@pytest.mark.parametrize("make", PARALLEL)
def test_a_neuron_without_stored_membrane_takes_no_membrane_quantizer(make: type[Neuron]) -> None:
    with pytest.raises(ConfigError, match=f"{make.__name__} stores no membrane between steps"):
        make().membrane = compress.PowerOfTwoMembrane(4, -2)
    model = nn.Sequential(nn.Linear(3, 4), make(), nn.Linear(4, 2))
    with pytest.raises(ConfigError, match=f"{make.__name__} stores no membrane"):
        compress.apply(model, compress.QSNN(membrane_bits=4))


def test_neurons_are_found_by_name() -> None:
    expected = {"lif", "plif", "psn", "masked_psn", "sliding_psn", "ilif", "nilif", "asn", "nasn", "ternary", "alif"}
    assert expected <= set(NEURONS) and NEURONS["asn"] is ASN
