"""Attention maps: what the observer collects is what the mixers compute, and how the report draws it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from helpers import calibrate, close, logits_of, small_images, small_model
from torch import Tensor, nn

from bitspike.layers import MapsAttention, QKChannelAttention, QKTokenAttention, SaccadicAttention, SpikingSelfAttention
from bitspike.layers.attention import spiking_attention, split_heads
from bitspike.measure import attention_of_sample, network_pictures, observe_attention, render_report
from bitspike.measure.attention_figure import TINT, attention_notes, overlay
from bitspike.measure.plots import wrapped
from bitspike.models import MODELS
from bitspike.neurons import Neuron

FORMERS: dict[str, tuple[str, dict[str, Any], list[str]]] = {  # model, options, kinds of its maps in order
    "self": ("spikingformer", {}, ["pairs", "pairs"]),
    "gates": ("snnvit", {}, ["tokens", "tokens"]),
    "masks": ("qkformer", {"mixers": ("token", "channel", "self")}, ["tokens", "channels", "pairs"]),
}
every_former = pytest.mark.parametrize("case", FORMERS)


def trained(case: str) -> tuple[nn.Module, Tensor]:
    name, options, _ = FORMERS[case]
    model, samples = small_model(name, **options), small_images(name, 5)
    return calibrate(model, samples), samples


def outputs(model: nn.Module, samples: Tensor) -> dict[str, Tensor]:
    """Output of every module of a forward pass, and under NAME/read what it read."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, inputs: tuple[Any, ...], out: Any) -> None:
        seen[name], seen[f"{name}/read"] = out, inputs[0]

    hooks = [m.register_forward_hook(lambda _m, i, o, n=n: keep(n, i, o)) for n, m in model.named_modules()]
    logits_of(model, samples)
    for hook in hooks:
        hook.remove()
    return seen


@every_former
def test_maps_are_those_of_the_forward_pass(case: str) -> None:
    model, samples = trained(case)
    seen = outputs(model, samples)
    with observe_attention(model) as maps:
        logits_of(model, samples)
    assert [m.kind for m in maps] == FORMERS[case][2]
    for found in maps:
        mixer = model.get_submodule(found.name)
        assert found.grid == tuple(seen[found.name].shape[-2:]) and not found.values.requires_grad
        read = split_heads(seen[f"{found.name}.project/read"], mixer.heads)
        if type(mixer) is SpikingSelfAttention:
            q, k, v = (split_heads(seen[f"{found.name}.{part}"], mixer.heads) for part in ("query", "key", "value"))
            weighted = torch.einsum("...lm,...dm->...dl", found.values, v)
            assert torch.equal(weighted, spiking_attention(q, k, v)) and weighted.any()
        elif type(mixer) is SaccadicAttention:
            assert torch.equal(
                found.values[:, :, :, None] * split_heads(seen[f"{found.name}.value"], mixer.heads), read
            )
        else:
            axis = {QKTokenAttention: 3, QKChannelAttention: 4}[type(mixer)]
            assert torch.equal(found.values.unsqueeze(axis) * split_heads(seen[f"{found.name}.key"], mixer.heads), read)


@every_former
def test_watching_changes_nothing_and_leaves_nothing(case: str) -> None:
    model, samples = trained(case)
    before = logits_of(model, samples)
    with observe_attention(model) as maps:
        assert torch.equal(logits_of(model, samples), before)
    count = len(maps)
    logits_of(model, samples)
    assert len(maps) == count > 0
    assert not any(m._forward_hooks for m in model.modules())
    with pytest.raises(RuntimeError, match="on purpose"), observe_attention(model):
        raise RuntimeError("on purpose")
    assert not any(m._forward_hooks for m in model.modules())


def test_training_goes_on_under_the_observer() -> None:
    model, samples = trained("self")
    with observe_attention(model.train()) as maps:
        model(samples).square().sum().backward()
    assert len(maps) == 2 and all(p.grad is not None for p in model.parameters())


@every_former
def test_maps_of_one_sample_by_hand(case: str) -> None:
    model, samples = trained(case)
    with observe_attention(model) as maps:
        logits_of(model, samples[1:2])
    layers = attention_of_sample(model, samples[1:2])
    for layer, found in zip(layers, maps, strict=True):
        values, shown = found.values[:, 0].double(), torch.tensor(layer["maps"]).double()
        assert (layer["name"], layer["kind"], layer["grid"]) == (found.name, found.kind, list(found.grid))
        assert layer["heads"] == values.shape[1] == len(shown)
        if found.kind == "pairs":
            pairs, query = sum(values), layer["query"]
            assert query == int(pairs.sum((0, 2)).argmax())
            received = pairs.sum(1)
            close(shown, received / received.amax(1, keepdim=True).clamp_min(1), 1e7)
            chosen = pairs[:, query]
            close(torch.tensor(layer["of_query"]).double(), chosen / chosen.amax(1, keepdim=True).clamp_min(1), 1e7)
        else:
            close(shown, values.mean(0), 1e7)


def test_a_network_without_attention_has_no_maps() -> None:
    model = small_model("vggsnn").eval()
    assert attention_of_sample(model, small_images("vggsnn", 1)) == []
    pictures = network_pictures(model, small_images("vggsnn", 2).numpy())
    assert "attention" not in pictures and 'id="attention"' not in render_report(pictures)


def test_deep_networks_are_thinned() -> None:
    model = small_model("spikingformer", depth=11, heads=8).eval()
    layers = attention_of_sample(model, small_images("spikingformer", 1))
    assert [layer["name"].split(".")[3] for layer in layers] == ["0", "1", "3", "4", "6", "7", "9", "10"]
    assert all(layer["heads"] == 8 and len(layer["maps"]) == 6 for layer in layers)


def test_every_mixer_of_the_transformers_can_be_looked_at() -> None:
    for name in ("spikformer", "spikingformer", "qkformer", "snnvit"):
        assert name in MODELS
        mixers = [m for key, m in small_model(name).named_modules() if key.endswith(".mixer")]
        assert mixers and all(isinstance(mixer, MapsAttention) for mixer in mixers)


def test_pictures_of_a_network_are_those_of_its_sample() -> None:
    model, samples = trained("gates")
    labels = np.arange(5)
    pictures = network_pictures(model, samples.numpy(), labels, shown_sample=2)
    raster = pictures["raster"]
    assert raster["prediction"] == int(logits_of(model, samples[2:3]).mean(0).argmax()) and raster["label"] == 2
    neurons = {name.removesuffix(".neuron"): n for name, n in model.named_modules() if isinstance(n, Neuron)}
    assert {layer["name"] for layer in raster["layers"]} == set(neurons) and raster["time_steps"] == 3
    seen = outputs(model, samples[2:3])
    for layer in raster["layers"]:
        own = seen.get(f"{layer['name']}.neuron", seen.get(layer["name"]))[:, 0].flatten(1)
        assert layer["neurons"] == own.shape[1] and layer["rate"] == pytest.approx(own.mean().item())
        assert all(max(fired, default=0) < layer["shown"] <= 64 for fired in layer["spikes"])
        if layer["neurons"] <= 64:
            assert layer["spikes"] == [step.nonzero().flatten().tolist() for step in own]


@every_former
def test_report_shows_them_with_what_the_colours_mean(case: str) -> None:
    model, samples = trained(case)
    result = network_pictures(model, samples.numpy())
    text = render_report(result)
    section = re.search(r'<section id="attention">.*?</section>', text, re.DOTALL)
    assert section and section.group().count("<image") == sum(
        len(layer["maps"]) * (2 if layer["kind"] == "pairs" else 1) for layer in result["attention"]
    )
    kinds = dict.fromkeys(FORMERS[case][2])
    assert len(attention_notes(result["attention"])) == len(kinds) and "orange" in section.group()
    assert "http" not in text


def test_overlay_tints_the_patches_it_should() -> None:
    image = np.zeros((7, 5))
    image[:, 2] = 1
    mixed = overlay(image, np.array([[0.0, 1.0], [0.0, 0.0]]))
    assert mixed.shape == (7, 5, 3)
    assert np.allclose(mixed[0, 4], 0.85 * np.array(TINT) + 0.15 * 0.1), "the upper right patch"
    assert np.allclose(mixed[0, 0], 0.1) and np.allclose(mixed[6, 4], 0.1) and np.allclose(mixed[6, 2], 0.7)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["features.0", "features.2"], ["features.0", "features.2"]),
        (["stages.0.stack.1", "stages.0.blocks.1.mixer.query"], ["stack.1", "blocks.1\nmixer.query"]),
        (["stages.0.blocks.0.mixer", "stages.2.blocks.0.mixer"], [f"stages.{i}\nblocks.0\nmixer" for i in (0, 2)]),
        (["blocks.0.mixer.salience.key", "last"], ["blocks.0\nmixer\nsalience.key", "last"]),
        (["averyveryverylongname"], ["…erylongname"]),
    ],
)
def test_long_names_take_lines_without_what_all_share(names: list[str], expected: list[str]) -> None:
    assert wrapped(names, 12) == expected
