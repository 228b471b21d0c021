"""BESTformer: published sizes, what its convolutions read, its variants, its two heads, and its training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import calibrate, close, small_images, small_model
from torch import Tensor, nn

from bitspike.compress import StandardizedBinary, apply
from bitspike.errors import ConfigError
from bitspike.layers import ChannelMapAttention, ReversibleBlock, Synapse, TokenMapAttention
from bitspike.measure import model_size
from bitspike.models import PUBLISHED_FORMERS, create_model, published_former
from bitspike.neurons import LIF, ReachingLIF

# parameters, binary ones, MB at 1 bit a binary weight and 32 bits otherwise
COUNTS = {
    "bestformer-cifar10-4-384": (9_314_884, 9_275_904, 1.315),
    "bestformer-cifar100-4-384": (9_384_184, 9_275_904, 1.593),
    "bestformer-imagenet-8-512": (30_178_064, 29_073_408, 8.05),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "map of channels": {"attention_map": "channels"},
    "map of counts": {"map_neuron": nn.Identity},
    "one stream": {"streams": "one"},
    "rebuilt": {"activations": "rebuilt"},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def variant_model(variant: str, **options: Any) -> nn.Module:
    return small_model("bestformer", **VARIANTS[variant] | options)


@pytest.mark.parametrize("name", COUNTS)
def test_point_1_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        model = published_former(name)
        parameters = sum(p.numel() for p in model.parameters())
        apply(model, StandardizedBinary())
    size = model_size(model)
    binary = sum(row.parameters for row in size.rows if row.bits == 1)
    assert (parameters, binary) == COUNTS[name][:2] and size.parameters == parameters
    assert abs(size.megabytes - COUNTS[name][2]) < 5e-4 * 10
    assert all(row.kind == "weight" for row in size.rows if row.bits == 1)


@pytest.mark.parametrize("name", COUNTS)
def test_variants_have_the_same_parameters(name: str) -> None:
    with torch.device("meta"):
        for variant in VARIANTS.values():
            model = published_former(name, **variant)
            assert sum(p.numel() for p in model.parameters()) == COUNTS[name][0]


def test_published_maps() -> None:
    with torch.device("meta"):
        kinds = {name: type(published_former(name).body.blocks[0].mixer.current) for name in COUNTS}
    assert list(kinds.values()) == [TokenMapAttention, TokenMapAttention, ChannelMapAttention]
    assert all(PUBLISHED_FORMERS[name][1]["heads"] == 8 for name in COUNTS)


def test_neurons() -> None:
    model = create_model("bestformer", dim=16, depth=1, heads=2)
    reaching = {n.split(".")[-1]: m for n, m in model.named_modules() if isinstance(m, ReachingLIF)}
    assert {n: (m.threshold, m.reset, m.decay_input, m.leak) for n, m in reaching.items()} == {
        "map_neuron": (1.0, "soft", True, 0.5),
        "neuron": (0.5, "hard", True, 0.5),
    }
    others = [m for m in model.modules() if isinstance(m, LIF)]
    assert len(others) == 4 + 2 + 3 + 1 and {m.threshold for m in others} == {1.0}


@every_variant
def test_point_3_every_convolution_but_the_first_reads_bits(variant: str) -> None:
    model = apply(variant_model(variant), StandardizedBinary())
    for name, parameter in model.named_parameters():
        if name.endswith("signed_gain"):
            parameter.data.fill_(3)  # few tokens give few counts
    calibrate(model, small_images("bestformer", 8))
    seen: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, Synapse):
            module.register_forward_pre_hook(lambda _m, i, name=name: seen.__setitem__(name, i[0].detach()))
    model(small_images("bestformer", 6))
    first, *others = seen.values()
    assert len(first.unique()) > 2 and len(others) == 4 + 2 * 6
    assert all(set(x.unique().tolist()) <= {0, 1} for x in others)
    assert sum(bool(x.any()) for x in others) == len(others)


@every_variant
def test_variants_treat_samples_alone_and_learn(variant: str) -> None:
    model, samples = variant_model(variant), small_images("bestformer", 5)
    calibrate(model, samples)
    together = model(samples)
    assert together.shape == (3, 5, 5) and together.std() > 0
    close(torch.cat([model(samples[i : i + 1]) for i in range(5)], 1), together)
    model.train()(samples).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_rebuilt_activations_train_the_same_binary_network() -> None:
    """Weights after five steps, from gradients through stored and through rebuilt activations."""

    def trained(activations: str) -> nn.Module:
        model = apply(small_model("bestformer", activations=activations), StandardizedBinary()).double().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for step in range(5):
            optimizer.zero_grad()
            model(small_images("bestformer", 4, seed=step)).mean(0).logsumexp(-1).mean().backward()
            optimizer.step()
        return model

    stored, rebuilt = trained("stored").state_dict(), trained("rebuilt").state_dict()
    assert stored.keys() == rebuilt.keys()
    for key, value in stored.items():
        close(value.double(), rebuilt[key].double(), scale=1000)


def test_streams_are_recovered_from_the_last_two() -> None:
    model, samples = small_model("bestformer", depth=4).eval(), small_images("bestformer", 3)
    with torch.no_grad():
        tokens = model.tokenizer(model.encoding(samples))
        states = model.body.states(tokens)
        older, newer = model.body.inverse(*states[-2:], tokens.dtype)
    assert torch.equal(older, newer) and (newer - tokens).abs().max() < 1e-8 and len(states) == 10


def test_heads_read_a_stream_each_and_are_averaged() -> None:
    model, samples = calibrate(small_model("bestformer"), small_images("bestformer", 8)), small_images("bestformer", 3)
    streams: list[tuple[Tensor, Tensor]] = []
    model.body.register_forward_hook(lambda _m, _i, out: streams.append(out))
    logits = model(samples)
    assert not torch.equal(*streams[0])
    expected = []
    for stream, head in zip(streams[0], (model.readout.labels, model.readout.teacher), strict=True):
        tokens = stream.flatten(3)
        mean = sum(tokens.unbind(-1)) / tokens.shape[-1]
        expected.append(mean @ head.layer.weight.T + head.layer.bias)
    close(logits, (expected[0] + expected[1]) / 2)


def test_blocks_of_two_streams_are_reversible_ones() -> None:
    assert all(isinstance(b, ReversibleBlock) for b in small_model("bestformer").body.blocks)


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "map": ({"attention_map": "pixels"}, "attention_map is 'pixels', accepted: tokens, channels"),
    "streams": ({"streams": "three"}, "streams is 'three', accepted: two, one"),
    "activations": ({"activations": "lost"}, "activations is 'lost', accepted: stored, rebuilt"),
    "one-rebuilt": ({"streams": "one", "activations": "rebuilt"}, "'rebuilt' on one stream, accepted: stored"),
    "depth": ({"depth": 0}, "depth is 0, accepted: 1 or more"),
    "deep": ({"depth": 14}, "28 branches, accepted: up to 26"),
    "heads": ({"heads": 5}, "heads is 5, accepted: divisors of the 384 channels"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_options(case: str) -> None:
    options, message = UNUSABLE[case]
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        create_model("bestformer", **options)
