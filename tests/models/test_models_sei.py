"""ResNets with a shortcut around every convolution: the equations, the self-ensemble view, the sizes."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import close, small_images, small_model
from torch import Tensor, nn
from torch.nn import functional as F

from bitspike.compress import BinaryWeights, apply
from bitspike.errors import ConfigError
from bitspike.models import create_model
from bitspike.neurons import Neuron, set_temporal_gradient
from bitspike.ops import spike

FORMS = ["sei_resnet", "sei_resnet_spike"]
every_form = pytest.mark.parametrize("name", FORMS)


def binary(name: str, **options) -> nn.Module:
    return apply(small_model(name, **options), BinaryWeights()).double().eval()


def neurons(model: nn.Module) -> dict[str, Neuron]:
    return {name: m for name, m in model.named_modules() if isinstance(m, Neuron)}


class Injected(nn.Module):
    """A binary activation of one step: spikes of current + noise, whatever the step before."""

    def __init__(self, neuron: Neuron, noise: Tensor) -> None:
        super().__init__()
        self.neuron, self.noise = (neuron,), noise

    def forward(self, current: Tensor) -> Tensor:
        neuron = self.neuron[0]
        return spike(current + self.noise - neuron.threshold, neuron.surrogate)


def member(model: nn.Module, noise: dict[str, Tensor]) -> nn.Module:
    """The feed-forward network of one step: neurons replaced by binary activations with their noise."""
    network = copy.deepcopy(model)
    network.encoding.time_steps = 1
    for name, neuron in neurons(network).items():
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, Injected(neuron, noise[name]))
    return network


def injected_noise(model: nn.Module, samples: Tensor) -> list[dict[str, Tensor]]:
    """Per step: what the leaky membrane adds to every neuron's current, 0 in the first step."""
    currents: dict[str, Tensor] = {}
    hooks = [
        neuron.register_forward_hook(lambda _m, args, _out, name=name: currents.__setitem__(name, args[0].detach()))
        for name, neuron in neurons(model).items()
    ]
    model(samples)
    for hook in hooks:
        hook.remove()
    noise: list[dict[str, Tensor]] = [{} for _ in range(model.encoding.time_steps)]
    for name, neuron in neurons(model).items():
        carry = torch.zeros_like(currents[name][0])
        for t, current in enumerate(currents[name]):
            noise[t][name] = neuron.leak * carry
            _, carry = neuron.step(current, carry)
    return noise


@every_form
def test_gradient_is_the_sum_over_the_members_of_the_ensemble(name: str) -> None:
    """T feed-forward backward passes, each on its own copy with the same injected noise, add up to the network's."""
    model, samples, labels = binary(name), small_images(name, 5), torch.tensor([0, 3, 1, 4, 2])
    noise = injected_noise(model, samples)
    logits = model(samples)
    F.cross_entropy(logits.flatten(0, 1), labels.repeat(3)).backward()
    whole = {key: p.grad.clone() for key, p in model.named_parameters()}
    total = {key: torch.zeros_like(g) for key, g in whole.items()}
    for t in range(3):
        network = member(model, noise[t])
        network.zero_grad()
        output = network(samples)
        close(output[0], logits[t])
        (F.cross_entropy(output[0], labels) / 3).backward()
        for key, p in network.named_parameters():
            total[key] += p.grad
    for key, gradient in whole.items():
        close(total[key], gradient)
    set_temporal_gradient(model, "full").zero_grad()
    F.cross_entropy(model(samples).flatten(0, 1), labels.repeat(3)).backward()
    assert any(not torch.allclose(p.grad, whole[key]) for key, p in model.named_parameters())


@every_form
def test_one_step_is_a_binary_activation_network(name: str) -> None:
    model, samples = binary(name, T=1), small_images(name, 4)
    nothing = {key: torch.zeros((), dtype=torch.float64) for key in neurons(model)}
    network = member(model, nothing)
    outputs, gradients = [], []
    for one in (model, network):
        one.zero_grad()
        out = one(samples)
        out.square().sum().backward()
        outputs.append(out)
        gradients.append([p.grad for p in one.parameters()])
    assert torch.equal(*outputs) and all(map(torch.equal, *gradients))
    assert all((n == 0).all() for n in injected_noise(model, samples)[0].values())


@pytest.mark.parametrize(
    "name, options",
    [("sei_resnet", {"downsampling": "copy"}), ("sei_resnet", {"downsampling": "conv"}), ("sei_resnet_spike", {})],
    ids=["copy", "conv", "spike"],
)
def test_spikes_stay_binary(name: str, options: dict[str, str]) -> None:
    model, inputs = binary(name, **options), []
    for layer in [m for m in model.modules() if isinstance(m, nn.Conv2d)][1:]:
        layer.register_forward_hook(lambda _m, args, _out: inputs.append(args[0]))
    spikes = []
    for neuron in neurons(model).values():
        neuron.register_forward_hook(lambda _m, _args, out: spikes.append(out))
    model(small_images(name, 4))
    assert len(spikes) == len(neurons(model)) and all(set(s.unique().tolist()) == {0.0, 1.0} for s in spikes)
    read = [set(x.unique().tolist()) == {0.0, 1.0} for x in inputs]
    assert read.count(False) == ("conv" in options.values()), "only the shortcut's own convolution reads currents"


def test_current_shortcuts_by_hand() -> None:
    """x_k = shortcut(x_{k-1}) + BN(conv(LIF(x_{k-1}))), at odd sizes, then LIF and the mean over pixels."""
    model, samples = binary("sei_resnet"), small_images("sei_resnet", 3)
    stem, *units, neuron = model.trunk
    x = stem(model.encoding(samples)).contiguous()
    for unit in units:
        out = unit.synapse.norm(unit.synapse.layer(unit.neuron(x).flatten(0, 1))).unflatten(0, x.shape[:2])
        if out.shape != x.shape:
            pooled = torch.zeros(*x.shape[:3], *out.shape[3:], dtype=x.dtype)
            for i in range(out.shape[3]):
                for j in range(out.shape[4]):
                    pooled[..., i, j] = x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((-2, -1))
            x = torch.cat([pooled, pooled], 2)
        x = x + out
    assert x.shape[2:] == (8, 5, 3)
    close(model(samples), model.readout.layer(neuron(x).mean((-2, -1))))


def test_spike_shortcuts_by_hand() -> None:
    """s_k = LIF(shortcut(s_{k-1}) + BN(conv(s_{k-1})))."""
    model, samples = binary("sei_resnet_spike"), small_images("sei_resnet_spike", 3)
    stem, *blocks = model.trunk
    s = stem(model.encoding(samples))
    for block in blocks:
        main, shortcut = block.unit.currents
        s = block.unit.neuron(main(s) + (s if isinstance(shortcut, nn.Identity) else shortcut(s)))
    close(model(samples), model.readout.layer(s.mean((-2, -1))))


@pytest.mark.parametrize(
    "name, options, convolutions, parameters",
    [
        ("sei_resnet", {}, 17, 11_000_138),
        ("sei_resnet", {"downsampling": "conv"}, 20, 11_173_962),
        ("sei_resnet_spike", {}, 20, 11_173_962),
    ],
    ids=["copy", "conv", "spike"],
)
def test_default_is_the_size_of_resnet18(name: str, options: dict, convolutions: int, parameters: int) -> None:
    """11,173,962 is ResNet-18 for CIFAR-10; without the shortcuts' convolutions and their norms 173,824 fewer."""
    with torch.device("meta"):
        model = create_model(name, **options)
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == convolutions
    assert sum(p.numel() for p in model.parameters()) == parameters


@every_form
def test_gradients_stay_within_their_step_unless_asked(name: str) -> None:
    assert {n.temporal_gradient for n in neurons(create_model(name, width=2, units=(1,))).values()} == {"spatial"}


@every_form
@pytest.mark.parametrize(
    "options, message",
    [
        ({"units": ()}, r"units \(\), accepted: 1 or more, of at least one stage"),
        ({"units": (2, 0)}, r"units \(2, 0\), accepted"),
        ({"width": 0}, "width is 0"),
        ({"input_shape": (3, 32)}, r"input_shape is \(3, 32\)"),
        ({"T": 0}, "time_steps is 0"),
    ],
    ids=["none", "empty-stage", "width", "shape", "steps"],
)
def test_unusable_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, **options)


def test_unknown_downsampling_is_refused() -> None:
    with pytest.raises(ConfigError, match="downsampling is 'max', accepted: copy, conv"):
        create_model("sei_resnet", downsampling="max")
