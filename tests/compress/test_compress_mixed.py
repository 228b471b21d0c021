"""A bit width for every weight layer: what is attached, what is refused, and that it can be deployed."""

from __future__ import annotations

import pytest
import torch
from helpers import calibrate, logits_of, small_images, small_model
from torch import nn

from bitspike.compress import (
    MixedBits,
    PlainSign,
    ReScaW,
    SymmetricUniform,
    applied,
    apply,
    config_from_json,
    config_to_json,
    weight_layers,
)
from bitspike.compress.config import _METHODS, Trait
from bitspike.compress.mixed import QUANTIZERS
from bitspike.deploy import exact_model
from bitspike.errors import ConfigError
from bitspike.measure import model_size
from bitspike.models import list_models
from bitspike.ops import weight_quantizer

FAMILIES = list(QUANTIZERS)


def cycled(model: nn.Module) -> dict[str, int]:
    """Bits 1 to 8 in turn, so that every layer of a small model differs from its neighbours."""
    return {name: 1 + (3 * i) % 8 for i, name in enumerate(weight_layers(model))}


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_stores_its_own_bits(name: str, family: str) -> None:
    model = small_model(name)
    bits = cycled(model)
    assert apply(model, MixedBits(bits, quantizer=family)) is model
    for layer_name, layer in weight_layers(model).items():
        quantizer = weight_quantizer(layer)
        assert quantizer is not None and quantizer.precision.bits == bits[layer_name]
        for channel in layer.weight.detach().flatten(1):
            assert len(channel.unique()) <= quantizer.precision.levels
    stored = {row.name: row.bits for row in model_size(model).rows if row.kind == "weight"}
    assert stored == bits


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_readout_has_one_scale_and_hidden_layers_their_familys(family: str, bits: int) -> None:
    model = apply(small_model("vggsnn"), MixedBits(default=bits, quantizer=family))
    *hidden, last = weight_layers(model).values()
    assert weight_quantizer(last).integers(last.weight.detach())[1].numel() == 1
    symmetric = SymmetricUniform if bits > 1 else PlainSign
    expected = symmetric if family == "symmetric" else ReScaW
    assert all(type(weight_quantizer(layer)) is expected for layer in hidden)


def test_the_default_covers_what_is_not_named() -> None:
    model = small_model("vggsnn")
    first, *rest = weight_layers(model)
    apply(model, MixedBits({first: 7}, default=3))
    found = {name: weight_quantizer(layer).precision.bits for name, layer in weight_layers(model).items()}
    assert found == {first: 7} | dict.fromkeys(rest, 3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["vggsnn", "resnet19"])
def test_a_mixed_model_has_an_exact_integer_form(name: str, family: str) -> None:
    samples = small_images(name, 5)
    model = calibrate(apply(small_model(name), MixedBits(cycled(small_model(name)), quantizer=family)), samples)
    assert torch.isfinite(logits_of(exact_model(model).eval(), samples)).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: MixedBits({"a": 0}), r"MixedBits bits of 'a' is 0, accepted: 1 to 8"),
        (lambda: MixedBits({"a": 9}), r"MixedBits bits of 'a' is 9, accepted: 1 to 8"),
        (lambda: MixedBits({"a": True}), r"MixedBits bits of 'a' is True, accepted: 1 to 8"),
        (lambda: MixedBits({"a": 2.0}), r"MixedBits bits of 'a' is 2.0, accepted: 1 to 8"),
        (lambda: MixedBits(default=12), r"MixedBits default is 12, accepted: 1 to 8"),
        (lambda: MixedBits(quantizer="ternary"), r"quantizer is 'ternary', accepted: rescaw, .*symmetric"),
        (lambda: MixedBits([("a", 1)]), r"MixedBits bits is \[\('a', 1\)\], accepted: an object"),
    ],
)
def test_a_bad_value_is_refused(config, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            MixedBits({"readout": 4}, default=2),
            r"names readout, accepted: features.0.currents.0.layer, .*readout.layer",
        ),
        (
            MixedBits({"readout.layer": 4}),
            r"says nothing of features.0.currents.0.layer, .*; name them in bits, or give a",
        ),
        (MixedBits(), r"says nothing of features"),
    ],
)
def test_names_that_do_not_fit_the_model_leave_it_as_it_is(config: MixedBits, message: str) -> None:
    model = small_model("vggsnn")
    with pytest.raises(ConfigError, match=message):
        apply(model, config)
    assert applied(model) == () and all(weight_quantizer(layer) is None for layer in weight_layers(model).values())


def test_a_weight_carries_one_quantizer() -> None:
    model = apply(small_model("vggsnn"), MixedBits(default=2))
    with pytest.raises(ConfigError, match="a weight carries one quantizer"):
        apply(model, MixedBits(default=3))
    model.__dict__.pop("compression")
    with pytest.raises(ConfigError, match="carry a quantizer, accepted: full-precision weights"):
        apply(model, MixedBits(default=3))


@pytest.mark.parametrize(
    ("config", "has_zero"),
    [
        (MixedBits(default=2), False),
        (MixedBits(default=2, quantizer="symmetric"), True),
        (MixedBits({"a": 1}, default=2, quantizer="symmetric"), False),
        (MixedBits({"a": 2}, default=1, quantizer="symmetric"), False),
        (MixedBits({"a": 2}, quantizer="symmetric"), True),
    ],
)
def test_traits_say_whether_every_layer_has_a_zero(config: MixedBits, has_zero: bool) -> None:
    traits = _METHODS["MixedBits"].traits(config)
    assert Trait.QUANTIZES_WEIGHTS in traits and (Trait.HAS_NO_ZERO_WEIGHT not in traits) == has_zero


def test_a_config_survives_json_and_its_callers_changes() -> None:
    bits = {"features.0.currents.0.layer": 8, "readout.layer": 2}
    config = MixedBits(bits, default=4, quantizer="symmetric")
    bits["readout.layer"] = 5
    assert config.bits["readout.layer"] == 2
    assert config_from_json(config_to_json(config)) == config
    with pytest.raises(ConfigError, match=r"'readout.layer' is 99, accepted: 1 to 8"):
        config_from_json(config_to_json(config).replace('"readout.layer": 2', '"readout.layer": 99'))
