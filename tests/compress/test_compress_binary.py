"""Binary weights with a real scale: values, gradients, what is attached where, and what is stored."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import close, digits_net, small_images, small_model
from torch import nn

from bitspike.compress import (
    QSNN,
    BinaryWeights,
    PlainSign,
    StraightThroughSign,
    SymmetricUniform,
    apply,
    config_from_json,
    config_to_json,
)
from bitspike.data import DataBundle
from bitspike.deploy import artifact, compile, ir
from bitspike.errors import ConfigError
from bitspike.measure import model_size
from bitspike.ops import clipped_sign, quantizer_input, weight_quantizer

SHAPES = [(6, 5, 3, 3), (3, 40, 1, 1), (9, 31), (2, 1, 3, 3)]
MODELS = ["sei_resnet", "sei_resnet_spike", "vggsnn"]


def weight_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize("name", MODELS)
def test_two_values_per_channel_and_plus_minus_one_without_the_scale(name: str) -> None:
    layers = list(weight_layers(apply(small_model(name), BinaryWeights())).values())
    for layer in layers[1:-1]:
        latent = quantizer_input(layer)
        for channel, row in zip(layer.weight.detach().flatten(1), latent.detach().flatten(1), strict=True):
            close(channel, row.abs().mean() * torch.where(row >= 0, 1.0, -1.0))
            assert len(channel.unique()) <= 2
        integers, scale = weight_quantizer(layer).integers(latent)
        assert integers.unique().tolist() == [-1, 1] and scale.shape == (len(latent), *[1] * (latent.dim() - 1))


def test_one_bit_per_weight_is_stored() -> None:
    model = apply(small_model("sei_resnet_spike"), BinaryWeights()).eval()
    graph = compile(model, small_images("sei_resnet_spike", 2)).graph
    convolutions = [n for n in graph.nodes if isinstance(n, ir.Conv)]
    assert [n.bits for n in convolutions] == [8] + [1] * 4 and graph.readout.bits == 8
    for node in convolutions[1:]:
        assert set(node.weight.flatten().tolist()) == {-1, 1}
        words = -(-node.weight.size // 32)
        assert len(artifact.pack_weights(node.weight, 1)) == 4 * words
    rows = {row.name: row for row in model_size(model).rows if row.kind == "weight"}
    assert sorted(row.bits for row in rows.values()) == [1] * 4 + [8] * 2


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scaled", [False, True], ids=["unscaled", "scaled"])
def test_gradient_is_clipped_straight_through(shape: tuple[int, ...], scaled: bool) -> None:
    """dL/dW = dL/dW_b 1[|W| <= 1], times s where asked; at |W| = 1 too."""
    w = 1.3 * torch.randn(shape, dtype=torch.float64)
    w.view(-1)[:2] = torch.tensor([1.0, -1.0])
    w.requires_grad_()
    upstream = torch.randn(shape, dtype=torch.float64)
    (PlainSign() if scaled else StraightThroughSign())(w).backward(upstream)
    mean = w.detach().flatten(1).abs().mean(1).view(-1, *[1] * (w.dim() - 1))
    close(w.grad, upstream * (w.detach().abs() <= 1) * (mean if scaled else 1))
    assert (w.grad == 0).any() and w.grad.view(-1)[0] != 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_integers_are_exact_at_every_magnitude(dtype: torch.dtype) -> None:
    w = torch.tensor([[1e-6, -1e-6, 0.0, -0.0, 3.0, -70.0]], dtype=dtype)
    for quantizer in (PlainSign(), StraightThroughSign()):
        integers, scale = quantizer.integers(1e-3 * w)
        assert integers.tolist() == [[1, -1, 1, 1, 1, -1]] and integers.dtype == scale.dtype == dtype


def test_zero_channel_stays_zero_and_finite() -> None:
    """Its scale is 0, and so is all that depends on it; the factor 1 / s of the other channels' gradient does not exist."""
    w = torch.zeros(2, 3, requires_grad=True)
    out = StraightThroughSign()(w)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(2, 3)) and torch.equal(w.grad, torch.zeros(2, 3))


def test_clipped_sign_gain_broadcasts_and_gets_no_gradient() -> None:
    x = torch.tensor([[0.5, -2.0], [-0.5, 1.0]], requires_grad=True)
    gain = torch.tensor([[2.0], [3.0]], requires_grad=True)
    clipped_sign(x, gain).sum().backward()
    assert x.grad.tolist() == [[2, 0], [3, 3]] and gain.grad is None


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bits", [None, 3, 8])
@pytest.mark.parametrize("scaled", [False, True], ids=["unscaled", "scaled"])
def test_apply_attaches_what_the_config_says(name: str, bits: int | None, scaled: bool) -> None:
    model = apply(small_model(name), BinaryWeights(edge_bits=bits, scaled_gradient=scaled))
    first, *inner, last = [weight_quantizer(layer) for layer in weight_layers(model).values()]
    assert inner and all(type(q) is (PlainSign if scaled else StraightThroughSign) for q in inner)
    for edge in (first, last):
        assert edge is None if bits is None else isinstance(edge, SymmetricUniform) and edge.bits == bits


def test_layers_are_chosen_by_name() -> None:
    """The convolutions of shortcuts keep the precision of the edges."""
    model = apply(small_model("sei_resnet_spike"), BinaryWeights(edge_bits=4, layers=("*.currents.0.layer",)))
    bits = {name: weight_quantizer(layer).precision.bits for name, layer in weight_layers(model).items()}
    assert bits == {
        "trunk.0.currents.0.layer": 4,
        "trunk.1.unit.currents.0.layer": 1,
        "trunk.2.unit.currents.0.layer": 1,
        "trunk.2.unit.currents.1.layer": 4,
        "trunk.3.unit.currents.0.layer": 1,
        "readout.layer": 4,
    }


def test_pattern_without_a_layer_is_refused_and_changes_nothing() -> None:
    model = small_model("vggsnn")
    before = str(model)
    with pytest.raises(ConfigError, match=r"'mlp\.\*' matches no layer between .* accepted: patterns of features\.2"):
        apply(model, BinaryWeights(layers=("features*", "mlp.*")))
    assert str(model) == before


@pytest.mark.parametrize(
    "first, second", [(QSNN(), BinaryWeights()), (BinaryWeights(), QSNN())], ids=["after", "before"]
)
def test_a_second_weight_quantizer_is_refused(first, second) -> None:
    with pytest.raises(ConfigError, match="a weight carries one quantizer"):
        apply(apply(small_model("vggsnn"), first), second)


def test_weights_quantized_by_hand_are_refused() -> None:
    model = small_model("vggsnn")
    nn.utils.parametrize.register_parametrization(model.readout.layer, "weight", PlainSign())
    with pytest.raises(ConfigError, match="already carry a quantizer"):
        apply(model, BinaryWeights())


@pytest.mark.parametrize(
    "config", [BinaryWeights(), BinaryWeights(None, True, ("*.mlp.*", "head")), BinaryWeights(2)], ids=str
)
def test_json_round_trip(config: BinaryWeights) -> None:
    assert config_from_json(config_to_json(config)) == config


BAD = {
    "edge-bits-low": ({"edge_bits": 1}, "BinaryWeights edge_bits is 1, accepted: 2 to 8, or null"),
    "edge-bits-high": ({"edge_bits": 9}, "BinaryWeights edge_bits is 9, accepted: 2 to 8, or null"),
    "no-layers": ({"layers": ()}, r"BinaryWeights layers is \(\), accepted: at least one pattern"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_in_python_and_json(case: str) -> None:
    values, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        BinaryWeights(**values)
    with pytest.raises(ConfigError, match=message):
        config_from_json(json.dumps({"type": "BinaryWeights", "version": 1} | values))


def test_a_model_without_inner_layers_is_refused(digits: DataBundle) -> None:
    with pytest.raises(ConfigError, match="no layer, the model has no more"):
        apply(digits_net(digits.spec, widths=(4,)), BinaryWeights())
