"""Any method on any model: chains of methods train, are recorded, rebuild, and deploy without a differing bit."""

from __future__ import annotations

import copy
import dataclasses
import re

import numpy as np
import pytest
import torch
from helpers import calibrate, has_integer_form, has_removable_channels, small_images, small_model
from torch import nn

from bitspike import deploy, engine, measure
from bitspike.compress import (
    QPSNN,
    QSNN,
    Bake,
    BinaryWeights,
    CompressionConfig,
    FreezeMask,
    MixedBits,
    Prune,
    RemoveZeroChannels,
    SoftThresholdPruning,
    StandardizedBinary,
    VanillaQuantization,
    applied,
    apply,
    config_from_json,
    config_to_json,
)
from bitspike.deploy import reference
from bitspike.errors import LoweringError
from bitspike.models import list_models

CHAINS: dict[str, tuple[CompressionConfig, ...]] = {
    **{f"ReScaW, {bits} bit": (QPSNN(bits, edge_bits=8),) for bits in (1, 2, 4, 8)},
    "vanilla, 2 bit": (VanillaQuantization(2, edge_bits=4),),
    "symmetric, 5 bit": (MixedBits(default=5, quantizer="symmetric"),),
    "binary": (BinaryWeights(edge_bits=8),),
    "standardized binary": (StandardizedBinary(edge_bits=8),),
    "Q-SNN": (QSNN(membrane="power-of-two"),),
    "quantized, then pruned": (QPSNN(4, edge_bits=8), Prune(0.5, "svs")),
    "pruned, then quantized": (Prune(0.4, "sca"), MixedBits(default=3)),
    "pruned twice": (Prune(0.3, "magnitude"), QPSNN(2, edge_bits=6), Prune(0.3, "random")),
    "sparse": (
        SoftThresholdPruning(0.1, "constant"),
        Bake(),
        RemoveZeroChannels(),
        FreezeMask(),
        MixedBits(default=8, quantizer="symmetric"),
    ),
}
UNFIT = {  # methods that take the last layer alone for a classifier; 8-bit levels without the zero of a dilated kernel
    "bestformer": "weights of 'readout' need one scale",
    "snnvit": "and a zero need 9 bits",
}
REMOVABLE = {name: has_removable_channels(name) for name in list_models()}


def compressed(name: str, chain: str) -> nn.Module:
    model = small_model(name)
    for method in CHAINS[chain]:
        apply(model, method, calibration=[small_images(name, 8)])
    return model


def skip_if_channels_stay(name: str, chain: str) -> None:
    if not REMOVABLE[name] and any(isinstance(m, Prune | RemoveZeroChannels) for m in CHAINS[chain]):
        pytest.skip("channels of a stream of currents or counts cannot be removed")


def lowered_or_skipped(name: str, model: nn.Module) -> deploy.exact.ExactModel:
    """The exact model, unless this chain gives the model weights that integer graphs cannot hold, which is said by name."""
    try:
        return deploy.exact_model(model).eval()
    except LoweringError as error:
        if not re.search(UNFIT.get(name, "(?!)"), str(error)):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("name", [name for name in list_models() if has_integer_form(name)])
def test_torch_reference_and_engine_agree_and_the_record_rebuilds(name: str, chain: str) -> None:
    skip_if_channels_stay(name, chain)
    model, samples = compressed(name, chain), small_images(name, 5)
    calibrate(model, small_images(name, 16))
    fresh = small_model(name, seed=9)
    for method in applied(model):
        apply(fresh, config_from_json(config_to_json(method)))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.eval()(samples), model.eval()(samples))

    exact = lowered_or_skipped(name, fresh)
    artifact = deploy.compile(exact, samples.numpy())
    expected = deploy.integer_logits(exact, samples)
    result = reference.run(artifact.graph, samples.numpy())
    np.testing.assert_array_equal(result.logits, expected)
    assert any(spikes.any() for spikes in result.spikes.values()), "a silent network proves little"
    for level in engine.levels():
        network = engine.load(artifact.to_bytes(), level=level)
        np.testing.assert_array_equal(network.run(samples.numpy()), expected)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("name", list_models())
def test_every_parameter_still_learns_and_the_size_falls(name: str, chain: str) -> None:
    skip_if_channels_stay(name, chain)
    model = compressed(name, chain).train()
    model(small_images(name, 4)).square().mean().backward()
    gradients = {key: p.grad for key, p in model.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert sum(float(g.abs().sum()) > 0 for g in gradients.values()) > 0.7 * len(gradients)
    assert measure.model_size(model).bytes < measure.model_size(small_model(name)).bytes


REFUSED = {
    "two quantizers": (QSNN(), QPSNN(), "a weight carries one quantizer"),
    "binary over mixed": (MixedBits(default=4), BinaryWeights(), "a weight carries one quantizer"),
    "no zero after a threshold": (SoftThresholdPruning(), QPSNN(), "would come back as other levels"),
    "no zero after a mask": (FreezeMask(), BinaryWeights(), "would come back as other levels"),
    "a threshold on quantized weights": (QPSNN(), SoftThresholdPruning(), "apply it first"),
    "two thresholds": (SoftThresholdPruning(), SoftThresholdPruning(0.2), "already have a threshold"),
    "a mask without zeros": (QPSNN(), FreezeMask(), "no quantized weight is zero"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_combined_is_refused_and_changes_nothing(case: str) -> None:
    first, second, reason = REFUSED[case]
    model = apply(small_model("vggsnn"), first)
    before, record, state = str(model), applied(model), copy.deepcopy(model.state_dict())
    with pytest.raises(Exception, match=reason) as caught:
        apply(model, second)
    assert type(first).__name__ in str(caught.value) and type(second).__name__ in str(caught.value)
    assert str(model) == before and applied(model) == record
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_what_can_be_combined_is_recorded_in_order() -> None:
    model = compressed("vggsnn", "sparse")
    assert [type(m).__name__ for m in applied(model)] == [
        "SoftThresholdPruning",
        "Bake",
        "KeepChannels",
        "FreezeMask",
        "MixedBits",
    ]
    assert applied(copy.deepcopy(model)) == applied(model)
    assert applied(small_model("vggsnn")) == ()
    assert all(dataclasses.is_dataclass(m) for m in applied(model))
