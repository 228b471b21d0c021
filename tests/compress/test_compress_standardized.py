"""Standardised 1-bit weights: the rule, what it does not depend on, its gradient, and which layers get it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from helpers import close, small_images, small_model
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bitspike.compress import (
    QSNN,
    StandardizedBinary,
    StandardizedSign,
    apply,
    config_from_json,
    config_to_json,
)
from bitspike.errors import ConfigError
from bitspike.ops import WeightQuantizer, identity_sign, weight_quantizer

SHAPES = [(3, 5, 3, 3), (7, 12, 1, 1), (1, 2, 1, 1)]


def weight(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rule_row_by_row(shape: tuple[int, ...]) -> None:
    w = weight(shape)
    expected = torch.stack([torch.where((row - row.mean()) / row.std() >= 0, 1.0, -1.0) for row in w]).double()
    integers, scale = StandardizedSign().integers(w)
    assert torch.equal(integers, expected) and scale == 1 and isinstance(StandardizedSign(), WeightQuantizer)
    assert torch.equal(StandardizedSign()(w), expected)


def test_point_2_neither_gain_nor_offset_of_a_channel_matters_and_half_are_positive() -> None:
    w, binary = weight((40, 60, 3, 3)), StandardizedSign()
    gain, offset = torch.rand(40, 1, 1, 1, dtype=torch.float64) + 0.1, weight((40, 1, 1, 1), 1)
    assert torch.equal(binary(gain * w + offset), binary(w))
    assert set(binary(w).unique().tolist()) == {-1, 1}
    assert abs((binary(w) > 0).double().mean() - 0.5) < 0.02


@pytest.mark.parametrize("value", [0.0, 0.3, -123.4])
def test_a_constant_channel_is_plus_one(value: float) -> None:
    w = torch.full((2, 9, 1, 1), value, requires_grad=True)
    out = StandardizedSign()(w)
    assert (out == 1).all()
    out.sum().backward()
    assert w.grad.isfinite().all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_that_of_the_standardisation(shape: tuple[int, ...]) -> None:
    """With g the gradient at the sign and n values a channel: (g - mean g - ŵ · sum(g ŵ) / (n - 1)) / std."""
    w, g = weight(shape).requires_grad_(), weight(shape, 1)
    StandardizedSign()(w).backward(g)
    rows, up = w.detach().flatten(1), g.flatten(1)
    n, std = rows.shape[1], rows.std(1, keepdim=True)
    hat = (rows - rows.mean(1, keepdim=True)) / std
    expected = (up - up.mean(1, keepdim=True) - hat * (up * hat).sum(1, keepdim=True) / (n - 1)) / std
    close(w.grad.flatten(1), expected, scale=100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_sign_maps_zero_to_plus_one_and_passes_every_gradient(dtype: torch.dtype) -> None:
    x = torch.tensor([-5.0, -0.0, 0.0, 0.3, 7.0], dtype=dtype, requires_grad=True)
    y = identity_sign(x)
    assert y.dtype == dtype and y.tolist() == [-1, 1, 1, 1, 1]
    y.backward(torch.tensor([1.0, 2, 3, 4, 5], dtype=dtype))
    assert x.grad.tolist() == [1, 2, 3, 4, 5]


def bits(model: nn.Module) -> dict[str, int | None]:
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    found = {name: weight_quantizer(m) for name, m in layers.items()}
    return {name: None if q is None else q.precision.bits for name, q in found.items()}


@pytest.mark.parametrize("edge_bits", [None, 4, 8])
@pytest.mark.parametrize("name", ["bestformer", "spikingformer", "vggsnn", "resnet19"])
def test_every_convolution_but_the_first_is_binary(name: str, edge_bits: int | None) -> None:
    model = apply(small_model(name), StandardizedBinary(edge_bits))
    convolutions = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    found = bits(model)
    assert {n: b for n, b in found.items() if b == 1}.keys() == set(convolutions[1:])
    assert all(b == edge_bits for n, b in found.items() if n not in convolutions[1:])


def test_point_10_integers_reproduce_the_trained_logits() -> None:
    """One bit a weight is all there is to store: the network with the bits in place of its weights is the same."""
    model, samples = apply(small_model("bestformer"), StandardizedBinary()).eval(), small_images("bestformer", 5)
    plain = small_model("bestformer").eval()
    stored = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and (quantizer := weight_quantizer(module)) is not None:
            integers, scale = quantizer.integers(module.parametrizations.weight.original)
            assert scale == 1
            stored[name] = integers > 0
    layers = dict(plain.named_modules())
    with torch.no_grad():
        for name, packed in stored.items():
            layers[name].weight.copy_(torch.where(packed, 1.0, -1.0))
    assert len(stored) == 4 + 2 * 6 and torch.equal(plain(samples), model(samples))


def test_weights_quantized_before_are_refused() -> None:
    with pytest.raises(ConfigError, match="a weight carries one quantizer"):
        apply(apply(small_model("vggsnn"), QSNN()), StandardizedBinary())
    model = small_model("vggsnn")
    parametrize.register_parametrization(model.readout.layer, "weight", StandardizedSign())
    with pytest.raises(ConfigError, match="already carry a quantizer"):
        apply(model, StandardizedBinary())


def test_a_model_of_one_convolution_is_refused() -> None:
    with pytest.raises(ConfigError, match="behind the first; the model has none"):
        apply(small_model("vggsnn", widths=(4,)), StandardizedBinary())


@pytest.mark.parametrize("config", [StandardizedBinary(), StandardizedBinary(8)], ids=str)
def test_json_round_trip(config: StandardizedBinary) -> None:
    assert config_from_json(config_to_json(config)) == config


@pytest.mark.parametrize("value", [1, 9, True, 2.5])
def test_bad_edge_bits_are_refused_in_python_and_json(value: Any) -> None:
    with pytest.raises(ConfigError, match=f"edge_bits is {value!r}, accepted: 2 to 8, or null"):
        StandardizedBinary(value)
    with pytest.raises(ConfigError, match="edge_bits"):
        config_from_json(json.dumps({"type": "StandardizedBinary", "version": 1, "edge_bits": value}))
