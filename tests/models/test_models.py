"""Contracts that every registered model keeps; small versions are configured in helpers.SMALL_MODELS."""

from __future__ import annotations

import pytest
import torch
from helpers import close, digits_net, images, logits_of, small_images, small_model, small_options
from torch import nn

from bitspike.compress import QSNN, apply, freeze_membranes
from bitspike.data import DataBundle
from bitspike.encode import DirectEncoding
from bitspike.errors import ConfigError
from bitspike.layers import ChannelShortcut, SpikingUnit
from bitspike.models import MODELS, create_model, list_models, register_model
from bitspike.neurons import PLIF, Neuron, observe_rates

COMPRESSED = {"float": None, "qsnn": QSNN(membrane_bits=4)}
every_model = pytest.mark.parametrize("name", list_models())
every_form = pytest.mark.parametrize("form", COMPRESSED)


def build(name: str, form: str, **options) -> nn.Module:
    model = small_model(name, **options)
    config = COMPRESSED[form]
    return (model if config is None else freeze_membranes(apply(model, config))).eval()


@every_form
@every_model
def test_logits_do_not_depend_on_the_batch(name: str, form: str) -> None:
    """Spikes are decided by comparisons, so any influence of neighbours would show as a jump, not as rounding.

    In float64: convolutions add in another order for another batch size, which float32 shows at a threshold now and then.
    """
    model, samples = build(name, form).double(), small_images(name, 7)
    together = logits_of(model, samples)
    assert together.shape == (3, 7, 5)
    assert together.std() > 0 and not torch.equal(together[:, 0], together[:, 1])
    alone = torch.cat([logits_of(model, samples[i : i + 1]) for i in range(7)], 1)
    close(alone, together)
    order = torch.tensor([6, 2, 0, 5, 1, 4, 3])
    close(logits_of(model, samples[order]), together[:, order])
    neighbours = images(3, samples.shape[1:], seed=9)
    close(logits_of(model, torch.cat([neighbours, samples[:2]]))[:, 3:], together[:, :2])


@every_form
@every_model
def test_calls_leave_nothing_behind(name: str, form: str) -> None:
    model, samples = build(name, form), small_images(name, 4)
    before = logits_of(model, samples)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    logits_of(model, small_images(name, 3, seed=5))
    assert torch.equal(logits_of(model, samples), before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@every_form
@every_model
def test_static_sample_equals_repeated_frames(name: str, form: str) -> None:
    model, samples = build(name, form), small_images(name, 3)
    close(logits_of(model, samples.repeat(3, 1, 1, 1, 1)), logits_of(model, samples))


@every_model
def test_frames_reach_their_own_step(name: str) -> None:
    """Causality: a change of the last frame leaves the earlier logits alone, and changes the last ones."""
    model = build(name, "float")
    frames = torch.stack([small_images(name, 3, seed=s) for s in range(3)])
    changed = frames.clone()
    changed[2] = small_images(name, 3, seed=11)
    one, other = logits_of(model, frames), logits_of(model, changed)
    close(one[:2], other[:2])
    assert not torch.allclose(one[2], other[2])


@every_model
def test_bytes_and_floats_in_byte_range_are_the_same_input(name: str) -> None:
    model, samples = build(name, "float"), small_images(name, 3)
    assert torch.equal(logits_of(model, samples), logits_of(model, samples.float()))


@every_form
@every_model
@pytest.mark.parametrize("neuron", ["default", "plif"])
def test_gradients_are_finite_and_reach_every_parameter(name: str, form: str, neuron: str) -> None:
    model = build(name, form, **({} if neuron == "default" else {"neuron": PLIF})).train()
    model(small_images(name, 6)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, f"no gradient at {key}"
        assert parameter.grad.isfinite().all(), f"gradient of {key} is not finite"
        assert parameter.grad.abs().max() > 0, f"gradient of {key} is zero"


@every_model
def test_every_neuron_fires(name: str) -> None:
    model = build(name, "float")
    with observe_rates(model) as rates:
        logits_of(model, small_images(name, 6))
    assert len(rates) == sum(isinstance(m, Neuron) for m in model.modules())
    assert all(0 < r.rate < 1 for r in rates)


@every_model
def test_empty_batch(name: str) -> None:
    assert logits_of(build(name, "qsnn"), small_images(name, 1)[:0]).shape == (3, 0, 5)


@every_model
def test_one_step(name: str) -> None:
    assert logits_of(build(name, "float", T=1), small_images(name, 2)).shape == (1, 2, 5)


@every_model
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_model_in_another_precision(name: str, dtype: torch.dtype) -> None:
    """``model.to(dtype)`` must go on taking bytes."""
    assert logits_of(build(name, "float").to(dtype), small_images(name, 2)).dtype == dtype


def test_resnet19_parameter_counts() -> None:
    with torch.device("meta"):
        model = create_model("resnet19", num_classes=10)
        assert sum(p.numel() for p in model.parameters()) == 12_569_226
        apply(model, QSNN())
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    bits = {layer: layer.parametrizations["weight"][0].precision.bits for layer in layers}
    binary = sum(layer.parametrizations["weight"].original.numel() for layer in layers if bits[layer] == 1)
    assert binary == 12_550_144
    assert [bits[layers[0]], bits[layers[-1]]] == [8, 8] and set(list(bits.values())[1:-1]) == {1}


@pytest.mark.parametrize(
    "name, classes, convolutions",
    [("resnet19", 10, 19), ("resnet18", 1000, 20), ("resnet20", 10, 19), ("vggsnn", 10, 8), ("vgg16", 10, 13)],
)
def test_published_architectures(name: str, classes: int, convolutions: int) -> None:
    """resnet19: stem, 16 in blocks, 2 shortcuts; resnet18: stem, 16, 3; resnet20: stem, 18; each with one classifier."""
    with torch.device("meta"):
        model = create_model(name)
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == convolutions
    assert [m.out_features for m in model.modules() if isinstance(m, nn.Linear)] == [classes]


@pytest.mark.parametrize("name, shape, features", [("vggsnn", (2, 48, 48), 4608), ("vgg16", (3, 32, 32), 512)])
def test_classifier_of_the_published_plain_networks(name: str, shape: tuple[int, ...], features: int) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert model.readout.layer.in_features == features and len(model.encoding.zero_point) == shape[0]
    biases = [m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert biases == [name == "vgg16"] + [False] * (len(biases) - 1)
    pools = [type(m).__name__ for m in model.features if not isinstance(m, SpikingUnit)]
    assert pools == ["MaxPool"] * (len(pools) - 1) + ["AvgPool"]


def test_resnet20_has_no_parameters_in_its_shortcuts() -> None:
    with torch.device("meta"):
        model = create_model("resnet20", num_classes=100)
    shortcuts = [
        unit.currents[1] for unit in model.modules() if isinstance(unit, SpikingUnit) and len(unit.currents) > 1
    ]
    shapes = [(s.in_channels, s.out_channels, s.stride) for s in shortcuts if isinstance(s, ChannelShortcut)]
    assert len(shortcuts) == 9 and shapes == [(64, 128, 1), (128, 256, 2), (256, 512, 2)]
    assert not any(list(shortcut.parameters()) for shortcut in shortcuts)


def test_small_options_give_small_models() -> None:
    assert all(sum(p.numel() for p in small_model(name).parameters()) < 20_000 for name in MODELS)
    assert all(len(small_options(name)) > 1 for name in MODELS)


UNKNOWN = {
    "near-name": ("resnet21", {}, "unknown model 'resnet21'.*did you mean 'resnet(20|1[89])'.*accepted: .*vggsnn"),
    "far-name": ("zzz", {}, "unknown model 'zzz', accepted: .*resnet19"),
    "option": ("vggsnn", {"num_clases": 3}, "model 'vggsnn' has no option num_clases, accepted: num_classes, T"),
    "pool": ("vggsnn", {"pool": "median"}, "pool is 'median', accepted: max, avg"),
    "pool-first": ("vggsnn", {"widths": ("P", 3)}, "beginning with a number"),
    "no-widths": ("vggsnn", {"widths": ()}, "beginning with a number"),
    "letter": (
        "vgg16",
        {"widths": (4, "Q")},
        "accepted are positive numbers and 'P', 'M', 'A', beginning with a number",
    ),
    "width": ("vggsnn", {"widths": (4, -2)}, r"widths \(4, -2\)"),
    "pooled-away": ("vggsnn", {"widths": (4, "P", "P", "P"), "input_shape": (1, 5, 5)}, "5x5 input down to nothing"),
    "vgg-shape": ("vggsnn", {"input_shape": (3, 0, 2)}, r"input_shape is \(3, 0, 2\)"),
    "resnet-shape": ("resnet19", {"input_shape": (3, 32)}, r"input_shape is \(3, 32\)"),
    "zero-point": ("resnet19", {"zero_point": (1, 2)}, "zero_point"),
    "steps": ("vggsnn", {"T": 0}, "T is 0|time_steps is 0"),
    "classes": ("vggsnn", {"num_classes": 0}, "num_classes is 0"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unusable_request(case: str) -> None:
    name, options, message = UNKNOWN[case]
    with pytest.raises(ConfigError, match=message):
        create_model(name, **options)


def test_registry() -> None:
    assert set(list_models()) == set(MODELS) and list_models("resnet1") == ["resnet18", "resnet19"]

    def only_in_this_test(num_classes: int = 2) -> nn.Module:
        return nn.Linear(3, num_classes)

    try:
        assert register_model(only_in_this_test) is only_in_this_test
        assert create_model("only_in_this_test", num_classes=4).out_features == 4
    finally:
        del MODELS["only_in_this_test"]


@pytest.mark.parametrize("shape", [(2, 8, 8), (5, 2, 1, 8, 8), (4, 2, 8, 8), (2, 2, 1, 8, 8)], ids=str)
def test_wrong_input_shape(digits: DataBundle, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"input has .*accepted: .*3"):
        digits_net(digits.spec, T=3)(torch.zeros(shape, dtype=torch.uint8))


def test_encoding_values() -> None:
    encoding = DirectEncoding(4, (10, 200), 0.5)
    samples = images(2, (2, 3, 3))
    sequence = encoding(samples)
    expected = (samples.float() - torch.tensor([10.0, 200.0]).view(-1, 1, 1)) * 0.5
    assert sequence.shape == (4, 2, 2, 3, 3) and sequence.stride(0) == 0
    assert all(torch.equal(step, expected) for step in sequence)
    frames = samples.expand(4, *samples.shape).contiguous()
    assert torch.equal(encoding(frames), sequence)
