"""Pruning: how many and which channels stay, what is recorded, and that the rest of the model goes on."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from helpers import calibrate, logits_of, small_images, small_model, small_options
from torch import Tensor, nn

from bitspike.compress import (
    QPSNN,
    KeepChannels,
    Prune,
    apply,
    channel_groups,
    config_from_json,
    config_to_json,
    kept_channels,
    magnitude_scores,
    sca_scores,
    svs_scores,
)
from bitspike.compress.scores import channel_means, firing_rate
from bitspike.deploy import compile, integer_logits, reference
from bitspike.errors import ConfigError
from bitspike.models import create_model

MODELS = ["vggsnn", "vgg16", "resnet19", "resnet20"]
SCORES = ["svs", "sca", "magnitude", "random"]


def calibration(name: str) -> list[Tensor]:
    return [small_images(name, 5), small_images(name, 3, seed=4)]


def sizes(model: nn.Module) -> dict[str, int]:
    return {group.name: group.size for group in channel_groups(model)}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", MODELS)
def test_one_ratio_prunes_all_but_what_the_classifier_reads(name: str, score: str) -> None:
    model = apply(small_model(name), QPSNN(4))
    before = sizes(model)
    assert apply(model, Prune(0.4, score), calibration=calibration(name)) is model
    last = {g.name for g in channel_groups(model) if "readout" in g.consumers}
    assert last and sizes(model) == {k: n if k in last else max(1, int(n * 0.6)) for k, n in before.items()}
    model.train()(small_images(name, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("ratio, kept", [(0.0, 6), (0.1, 5), (0.34, 3), (0.5, 3), (0.99, 1)])
def test_number_of_channels_that_stay(ratio: float, kept: int) -> None:
    model = apply(small_model("vggsnn"), Prune({"features.2": ratio}, "magnitude"))
    assert sizes(model) == {"features.0": 4, "features.2": kept, "features.3": 5}


def test_the_last_group_is_pruned_where_told() -> None:
    model = apply(small_model("vggsnn"), Prune(0.5, "magnitude", keep_last=False))
    assert sizes(model) == {"features.0": 2, "features.2": 3, "features.3": 2}
    model = apply(small_model("vggsnn"), Prune({"features.3": 0.5}, "magnitude"))
    assert sizes(model) == {"features.0": 4, "features.2": 6, "features.3": 2}


@pytest.mark.parametrize("score", SCORES)
def test_ratio_zero_leaves_the_model_as_it_is(score: str) -> None:
    model, samples = small_model("resnet20").eval(), small_images("resnet20", 4)
    before = logits_of(model, samples)
    apply(model, Prune(0.0, score), calibration=calibration("resnet20"))
    assert torch.equal(logits_of(model, samples), before) and kept_channels(model) == KeepChannels()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("score", ["svs", "sca", "magnitude"])
def test_the_highest_sums_over_a_group_stay(score: str, name: str) -> None:
    model, data = small_model(name).eval(), calibration(name)
    rules: dict[str, Any] = {
        "svs": svs_scores,
        "sca": sca_scores,
        "magnitude": lambda model, data: magnitude_scores(model),
    }
    scores, rates = rules[score](model, data), channel_means(model, data, [firing_rate])
    groups = channel_groups(model)
    apply(model, Prune(0.5, score), calibration=data)
    for group in groups:
        kept = kept_channels(model).channels.get(group.name, range(group.size))
        gone = set(range(group.size)) - set(kept)
        total = sum(scores[unit] for unit in group.producers)
        fired = sum(rates[unit][0] for unit in group.producers)
        assert list(kept) == sorted(kept)
        for a in kept:
            for b in gone:
                assert total[a] > total[b] or (total[a] == total[b] and (fired[a] >= fired[b] or score == "magnitude"))


def test_ties_go_to_the_channel_that_fires_more_and_then_to_the_first() -> None:
    """One pixel: a map's rank is 1 whether it fires in one step or in all; two channels are alike."""
    model = create_model("vggsnn", num_classes=2, T=2, input_shape=(1, 1, 1), widths=(4, 3), input_scale=1.0)
    conv, norm = model.features[0].currents[0].layer, model.features[0].currents[0].norm
    nn.init.zeros_(conv.weight)
    norm.bias.data = torch.tensor([0.8, 2.0, 0.0, 2.0])  # fires in the second step, in both, never, in both
    data = [torch.zeros(1, 1, 1, 1, dtype=torch.uint8)]
    assert svs_scores(model, data)["features.0"].tolist() == [1, 1, 0, 1]
    for ratio, kept in ((0.25, (0, 1, 3)), (0.5, (1, 3)), (0.75, (1,))):
        pruned = apply(copy.deepcopy(model), Prune(ratio), calibration=data)
        assert kept_channels(pruned).channels == {"features.0": kept}


def test_random_choice_follows_its_seed() -> None:
    choices = [kept_channels(apply(small_model("resnet20"), Prune(0.5, "random", seed=seed))) for seed in (1, 1, 2)]
    assert choices[0] == choices[1] != choices[2]


@pytest.mark.parametrize("name", MODELS)
def test_repeated_pruning_is_restored_from_its_record(name: str) -> None:
    model, samples = apply(small_model(name), QPSNN(2)).eval(), small_images(name, 4)
    apply(model, Prune(0.3), calibration=calibration(name))
    apply(model, Prune(0.3, "sca"), calibration=calibration(name))
    fresh = apply(apply(create_model(name, **small_options(name)), QPSNN(2)), kept_channels(model))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(logits_of(fresh.eval(), samples), logits_of(model, samples))


@pytest.mark.parametrize("score", ["svs", "sca"])
def test_missing_calibration_is_refused_and_the_model_left_alone(score: str) -> None:
    model = small_model("vggsnn")
    with pytest.raises(ConfigError, match="calibration holds no sample"):
        apply(model, Prune(0.5, score))
    assert sizes(model) == sizes(small_model("vggsnn")) and kept_channels(model) == KeepChannels()


def test_unknown_group_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Prune ratio names conv1, accepted: features.0, features.2, features.3"):
        apply(small_model("vggsnn"), Prune({"conv1": 0.5}, "magnitude"))


BAD = {
    "one": ({"ratio": 1}, r"Prune ratio is 1\.0, accepted: 0 up to, not including, 1"),
    "negative": ({"ratio": {"a": -0.1}}, r"Prune ratio is -0\.1"),
    "text": ({"ratio": "half"}, "ratios 'half' are unknown, accepted: vgg16"),
    "nested": ({"ratio": {"a": "b"}}, "Prune.ratio is .*'b'"),
    "score": ({"score": "svd"}, "Prune score is 'svd', accepted: svs, sca, magnitude, random"),
    "tolerance": ({"tolerance": -1e-6}, "Prune tolerance is -1e-06"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case: str) -> None:
    values, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        config_from_json(json.dumps({"type": "Prune", "version": 1} | values))


@pytest.mark.parametrize(
    "config", [Prune(), Prune({"a": 0.5, "b": 0.0}, "sca", False, 1e-6, 3)], ids=["default", "all"]
)
def test_json_round_trip(config: Prune) -> None:
    assert config_from_json(config_to_json(config)) == config


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("name", MODELS)
def test_a_quantized_pruned_network_is_deployed_bit_for_bit(name: str, bits: int) -> None:
    model, samples = apply(small_model(name), QPSNN(bits, edge_bits=8)), small_images(name, 6)
    calibrate(apply(model, Prune(0.4), calibration=calibration(name)), samples)
    artifact = compile(model, samples)
    result = reference.run(artifact.graph, samples.numpy())
    np.testing.assert_array_equal(integer_logits(model, samples), result.logits)
    assert result.logits.std() > 0
