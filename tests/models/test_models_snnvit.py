"""SNN-ViT: its sizes and variants, what each gate is made of, one mixer against the other, refusals."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from helpers import calibrate, close, small_images, small_model
from torch import nn

from bitspike.compress import QSNN, apply
from bitspike.errors import ConfigError
from bitspike.layers import ConvBN, QKTokenAttention, SaccadicAttention
from bitspike.models import create_model
from bitspike.models.snnvit import SNNVIT_SIZES, snnvit_of_size
from bitspike.neurons import LIF, DecoupledSaccadic, Neuron, Saccadic, observe_rates

SIZES = {"cifar": (5_308_562, 64), "events": (1_572_634, 64), "small": (117_538, 49)}  # parameters, tokens
VARIANTS: dict[str, dict[str, Any]] = {
    "mix": {},
    "decoupled": {"gate": "decoupled"},
    "lif": {"gate": "lif"},
    "token": {"gate": "token"},
    "learned": {"alpha": "learned"},
    "plain": {"stem": "plain"},
    "pooled currents": {"downsampling": "currents"},
}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", SNNVIT_SIZES)
def test_sizes(name: str) -> None:
    with torch.device("meta"):
        model = snnvit_of_size(name)
        shapes: list[torch.Size] = []
        model.stages.register_forward_hook(lambda _m, _i, out: shapes.append(out.shape))
        model(torch.empty(1, *SNNVIT_SIZES[name].get("input_shape", (3, 32, 32)), dtype=torch.uint8))
    assert (count(model), shapes[0][-1] * shapes[0][-2]) == SIZES[name]


def test_sizes_follow_from_depth_and_width() -> None:
    """Near and wide convolutions in four stages; Q, K, V, projection and the MLP's 8 D^2 in every block; the gates."""
    with torch.device("meta"):
        model = snnvit_of_size("cifar", dim=64, depth=3, heads=4)
    widths = [3, 8, 16, 32, 64]
    stem = sum(2 * (9 * a * b + 2 * b) for a, b in itertools.pairwise(widths))
    block = 12 * 64**2 + 18 * 64 + 6 * 64 + (4 * 4 + 4)  # weights, batch norms, biases, gate
    assert count(model) == stem + 3 * block + 64 * 10 + 10


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_treat_samples_alone_and_learn(variant: str) -> None:
    model, samples = small_model("snnvit", **VARIANTS[variant]), small_images("snnvit", 5)
    calibrate(model, samples)
    together = model(samples)
    assert together.std() > 0
    close(torch.cat([model(samples[i : i + 1]) for i in range(5)], 1), together)
    close(model(samples.flip(0)).flip(1), together)
    model.train()(samples).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("variant", "kind"), [("mix", Saccadic), ("decoupled", DecoupledSaccadic), ("lif", LIF), ("token", None)]
)
def test_what_the_gate_is(variant: str, kind: type | None) -> None:
    mixers = [block.mixer for block in small_model("snnvit", **VARIANTS[variant]).stages[0].blocks]
    if kind is None:
        assert all(type(m) is QKTokenAttention for m in mixers)
    else:
        assert all(type(m) is SaccadicAttention and type(m.gate) is kind for m in mixers)
        assert mixers[0].gate is not mixers[1].gate, "every block has gates of its own"


def test_gates_are_alive_on_normalised_currents() -> None:
    """Point 9 without training: batch statistics of real images already let some tokens pass and others not."""
    for gate in ("mix", "decoupled", "lif"):
        torch.manual_seed(0)
        model = create_model("snnvit", T=4, input_shape=(1, 28, 28), dim=32, depth=2, heads=2, gate=gate)
        samples = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
        with torch.no_grad(), observe_rates(model.train()) as rates:
            model(samples)
        own = [r.rate.item() for r in rates if r.name.endswith("gate")]
        assert len(own) == 2 and all(0.02 < rate < 0.98 for rate in own), (gate, own)


def test_both_baselines_differ_in_one_place_only() -> None:
    shapes = {
        name: {k: p.shape for k, p in small_model("snnvit", **VARIANTS[name]).named_parameters()} for name in VARIANTS
    }
    for name, place in (
        ("token", ".mixer."),
        ("plain", ".tokenizer."),
        ("lif", ".mixer.gate"),
        ("learned", ".salience."),
    ):
        differing = set(shapes["mix"].items()) ^ set(shapes[name].items())
        assert differing and all(place in key for key, _ in differing)


def test_plain_stem_has_the_near_convolutions_alone() -> None:
    plain, both = (small_model("snnvit", stem=stem) for stem in ("plain", "global-local"))
    convolutions = [sum(isinstance(m, ConvBN) for m in model.stages[0].tokenizer.modules()) for model in (plain, both)]
    assert convolutions == [4, 8]


UNUSABLE = {
    "gate": ({"gate": "open"}, "gate is 'open', accepted: mix, decoupled, lif, token"),
    "alpha": ({"alpha": "fixed"}, "alpha is 'fixed', accepted: data, learned"),
    "stem": ({"stem": "conv"}, "stem is 'conv', accepted: global-local, plain"),
    "heads": ({"heads": 5}, "heads is 5, accepted: divisors of the 384 channels"),
    "depth": ({"depth": 0}, "depth is 0, accepted: 1 or more"),
    "patch": ({"patch": 3}, "patch is 3, accepted: 1, 2, 4, 8, 16"),
    "dim": ({"dim": 20}, "dim is 20, accepted: multiples of 8"),
    "learned-token": ({"gate": "token", "alpha": "learned"}, "alpha is 'learned', accepted with gate 'token': 'data'"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_options(case: str) -> None:
    options, message = UNUSABLE[case]
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        create_model("snnvit", **options)


def test_unknown_size() -> None:
    with pytest.raises(ConfigError, match="size of SNN-ViT is 'huge', accepted: cifar, events, small"):
        snnvit_of_size("huge")


def test_membrane_quantizers_pass_over_gates_that_store_none() -> None:
    model = apply(small_model("snnvit"), QSNN(membrane_bits=4))
    quantized = {type(m): m.membrane is not None for m in model.modules() if isinstance(m, Neuron)}
    assert quantized == {LIF: True, Saccadic: False}
