"""Uniform quantizers without a zero level: grid, range, gradients, and the configurations that attach them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from helpers import close, logits_of, small_images, small_model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from bitspike.compress import (
    QPSNN,
    ReScaW,
    SymmetricUniform,
    VanillaQuantization,
    VanillaUniform,
    apply,
    config_from_json,
    config_to_json,
    level_utilisation,
)
from bitspike.errors import ConfigError
from bitspike.models import list_models
from bitspike.ops import WeightQuantizer, weight_quantizer

BITS = (1, 2, 3, 4, 8)
SHAPES = [(6, 5, 3, 3), (7, 40, 1, 1), (9, 31)]
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "max": {"scale": "max"},
    "percentile": {"scale": "percentile", "percentile": 0.9},
    "layer": {"granularity": "layer"},
    "scaled": {"gradient": "scaled"},
    "masked": {"gradient": "masked"},
    "wide": {"range": "wide"},
    "all": {"scale": "percentile", "granularity": "layer", "gradient": "masked", "range": "wide"},
}


def quantizers(bits: int) -> dict[str, WeightQuantizer]:
    return {"vanilla": VanillaUniform(bits)} | {name: ReScaW(bits, **options) for name, options in VARIANTS.items()}


def weights_of_layer(quantizer: nn.Module, weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    parametrize.register_parametrization(layer, "weight", quantizer)
    return layer


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", quantizers(1))
def test_levels_are_even_steps_around_zero_and_never_zero(name: str, shape: tuple[int, ...], bits: int) -> None:
    quantizer, s = quantizers(bits)[name], 2**bits - 1
    w = 0.3 * torch.randn(shape, dtype=torch.float64)
    integers, scale = quantizer.integers(w)
    assert torch.equal(quantizer(w), integers * scale)
    assert scale.numel() in (1, shape[0]) and (scale > 0).all()
    stored = (integers + s) / 2
    assert torch.equal(stored, stored.round()) and stored.min() >= 0 and stored.max() <= s
    gamma = scale * s
    for channel, top in zip(quantizer(w).flatten(1), gamma.expand(shape[0], *gamma.shape[1:]).flatten(), strict=True):
        levels = channel.unique()
        assert len(levels) <= 2**bits and levels.abs().min() > 0 and levels.abs().max() <= top * (1 + 1e-12)
        steps = levels.diff() / (2 * top / s)
        close(steps, steps.round())


@pytest.mark.parametrize("name", quantizers(1))
@pytest.mark.parametrize("bits", BITS)
def test_stored_integers_and_scales_give_the_training_forward_bit_for_bit(name: str, bits: int) -> None:
    """The artifact holds b-bit q and one scale per channel; what training computed with must come back from them."""
    quantizer, w, x = quantizers(bits)[name], torch.randn(5, 12), torch.randn(3, 12)
    integers, scale = quantizer.integers(w)
    stored = ((integers + 2**bits - 1) / 2).to(torch.uint8)
    assert int(stored.max()) < 2**bits
    restored = (2 * stored.float() - (2**bits - 1)) * scale
    assert torch.equal(F.linear(x, restored), F.linear(x, quantizer(w)))
    assert quantizer.precision.bits == bits and quantizer.precision.levels == 2**bits
    assert not quantizer.precision.has_zero
    assert quantizer.precision.granularity.startswith("layer") == (scale.numel() == 1)


def test_two_bit_levels_of_the_fixed_range() -> None:
    out = VanillaUniform(2)(torch.tensor([[-5.0, -0.4, 0.1, 0.9]], dtype=torch.float64))
    close(out, torch.tensor([[-1.0, -1 / 3, 1 / 3, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize("bits, vanilla", [(2, 0.5), (8, 0.35)])
def test_following_the_weights_uses_every_level(bits: int, vanilla: float) -> None:
    """N(0, 0.08²): the fixed range leaves most levels unused."""
    w = 0.08 * torch.randn(128, 600)
    assert level_utilisation(weights_of_layer(ReScaW(bits), w)) == 1
    assert 1 / 2**bits < level_utilisation(weights_of_layer(VanillaUniform(bits), w)) <= vanilla


def test_utilisation_needs_a_quantizer() -> None:
    with pytest.raises(ConfigError, match="Linear carries no weight quantizer"):
        level_utilisation(nn.Linear(2, 2))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("factor", [0.125, 37.7])
@pytest.mark.parametrize("name", VARIANTS)
def test_scale_equivariance_holds_unless_the_range_is_fixed(name: str, factor: float, bits: int) -> None:
    w = torch.randn(6, 37, dtype=torch.float64)
    close(ReScaW(bits, **VARIANTS[name])(factor * w), factor * ReScaW(bits, **VARIANTS[name])(w), scale=100)
    fixed = VanillaUniform(bits)
    assert not torch.allclose(fixed(factor * w), factor * fixed(w))


@pytest.mark.parametrize(
    "options, bits, share", [({}, 8, 0.425), ({"range": "wide"}, 8, 0.112), ({"range": "wide"}, 4, 0.135)]
)
def test_share_of_gaussian_weights_beyond_the_range(options: dict[str, Any], bits: int, share: float) -> None:
    w = torch.randn(40, 5000)
    saturated = (w.abs() > ReScaW(bits, **options).gamma(w)).float().mean().item()
    assert saturated == pytest.approx(share, abs=0.005)


def test_scale_rules() -> None:
    w = torch.tensor([[1.0, -2.0, 3.0, 0.0], [-8.0, 0.0, 0.0, 0.0]], dtype=torch.float64)

    def gamma(**options: Any) -> list[float]:
        return ReScaW(2, **options).gamma(w).flatten().tolist()

    assert gamma() == [1.5, 2.0] and gamma(granularity="layer") == [1.75]
    assert gamma(scale="max") == [3.0, 8.0] and gamma(scale="max", granularity="layer") == [8.0]
    assert gamma(scale="percentile", percentile=1.0) == gamma(scale="max")
    assert gamma(scale="percentile", percentile=0.75) == pytest.approx([1.5, 2.0])
    assert gamma(range="wide") == [2.25, 3.0]


GRADIENTS = {
    "unit": lambda w, gamma: torch.ones_like(w),
    "scaled": lambda w, gamma: (1 / gamma).expand_as(w),
    "masked": lambda w, gamma: (w.abs() <= gamma).double(),
}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_of_the_quantized_weight(shape: tuple[int, ...], granularity: str, gradient: str) -> None:
    quantizer = ReScaW(3, gradient=gradient, granularity=granularity)
    w = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(shape, dtype=torch.float64)
    quantizer(w).backward(upstream)
    expected = GRADIENTS[gradient](w.detach(), quantizer.gamma(w))
    assert 0 < expected.ne(0).double().mean() <= 1
    close(w.grad, upstream * expected)


def test_gradient_of_the_fixed_range_stops_outside() -> None:
    w = torch.tensor([[-1.5, -1.0, 0.2, 1.1]], dtype=torch.float64, requires_grad=True)
    VanillaUniform(4)(w).sum().backward()
    close(w.grad, torch.tensor([[0.0, 1, 1, 0]], dtype=torch.float64))


@pytest.mark.parametrize("name", quantizers(1))
@pytest.mark.parametrize("bits", [1, 8])
def test_channels_without_weights_stay_finite_and_next_to_silent(name: str, bits: int) -> None:
    w = torch.zeros(3, 4, 3, 3)
    w[1] = 0.5
    w.requires_grad_()
    quantizer = quantizers(bits)[name]
    out = quantizer(w)
    out.sum().backward()
    assert out.isfinite().all() and w.grad.isfinite().all() and (quantizer.integers(w)[1] > 0).all()
    if quantizer.precision.granularity.startswith("output channel"):
        assert out[0].abs().max() < 1e-5 and out[1].abs().min() > 0


CONFIGS = {
    "qpsnn": (QPSNN(), ReScaW),
    "qpsnn-edges": (QPSNN(2, "max", 0.9, "layer", "masked", "wide", 8), ReScaW),
    "vanilla": (VanillaQuantization(), VanillaUniform),
    "vanilla-edges": (VanillaQuantization(8, 4), VanillaUniform),
}


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("case", CONFIGS)
def test_hidden_layers_are_quantized_and_edges_as_told(case: str, name: str) -> None:
    config, hidden = CONFIGS[case]
    model = small_model(name)
    assert apply(model, config) is model
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    first, *inner, last = [weight_quantizer(layer) for layer in layers]
    assert inner and all(type(q) is hidden and q.bits == config.weight_bits for q in inner)
    for edge in (first, last):
        assert edge is None if config.edge_bits is None else isinstance(edge, SymmetricUniform)
        assert getattr(edge, "bits", None) == config.edge_bits
    if isinstance(config, QPSNN):
        fields = ("scale", "percentile", "granularity", "gradient", "range")
        assert all(getattr(q, field) == getattr(config, field) for q in inner for field in fields)
    assert logits_of(model.eval(), small_images(name, 2)).isfinite().all()
    assert config_from_json(config_to_json(config)) == config


BAD = {
    "bits": ("QPSNN", {"weight_bits": 9}, "QPSNN weight_bits is 9, accepted: 1 to 8"),
    "no-bits": ("VanillaQuantization", {"weight_bits": 0}, "VanillaQuantization weight_bits is 0, accepted: 1 to 8"),
    "scale": ("QPSNN", {"scale": "median"}, "QPSNN scale is 'median', accepted: mean, max, percentile"),
    "percentile": ("QPSNN", {"percentile": 0.5}, "QPSNN percentile is 0.5, accepted: above 0.5, up to 1"),
    "granularity": ("QPSNN", {"granularity": "row"}, "QPSNN granularity is 'row', accepted: channel, layer"),
    "gradient": ("QPSNN", {"gradient": "x"}, "QPSNN gradient is 'x', accepted: unit, scaled, masked"),
    "range": ("QPSNN", {"range": "x"}, "QPSNN range is 'x', accepted: plain, wide"),
    "edge": ("QPSNN", {"edge_bits": 1}, "QPSNN edge_bits is 1, accepted: 2 to 8, or null"),
    "vanilla-edge": ("VanillaQuantization", {"edge_bits": 9}, "VanillaQuantization edge_bits is 9, accepted: 2 to 8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case: str) -> None:
    name, values, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        config_from_json(json.dumps({"type": name, "version": 1} | values))


@pytest.mark.parametrize("make", [lambda: ReScaW(0), lambda: VanillaUniform(9), lambda: ReScaW(4, scale="x")])
def test_quantizers_refuse_on_their_own(make) -> None:
    with pytest.raises(ConfigError, match="accepted"):
        make()


def test_a_model_without_hidden_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="QPSNN needs a layer between the first and the last; the model has 2"):
        apply(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), QPSNN())


def test_a_second_quantizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="a weight carries one quantizer"):
        apply(apply(small_model("vggsnn"), QPSNN()), VanillaQuantization())
