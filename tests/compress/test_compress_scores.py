"""Channel scores against their definitions, and how steady they are from batch to batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from helpers import close, digits_net, small_images, small_model
from torch import Tensor, nn
from torch.nn import functional as F

from bitspike.compress import QPSNN, apply, magnitude_scores, sca_scores, svs_scores
from bitspike.compress.scores import significant_values
from bitspike.data import DataBundle
from bitspike.errors import ConfigError
from bitspike.layers import SpikingUnit, Synapse
from bitspike.learn import TrainConfig, Trainer
from bitspike.neurons import LIF, PLIF, Neuron

SIZES = [(8, 8), (5, 7), (2, 2), (1, 1), (6, 1)]
MODELS = ["vggsnn", "resnet20"]


def rank(maps: Tensor, tolerance: float | None = None) -> Tensor:
    """Score of spikes or averaged maps (N, C, H, W)."""
    return significant_values(LIF(), maps[None], maps[None], tolerance)


def batches(name: str, count: int = 2) -> list[Tensor]:
    return [small_images(name, 5 - i, seed=i) for i in range(count)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_singular_values_of_known_maps(size: tuple[int, int]) -> None:
    silent, constant, diagonal = torch.zeros(size), torch.ones(size), torch.eye(*size)
    maps = torch.stack([silent, constant, 0.25 * constant, diagonal])[None]
    assert rank(maps).tolist() == [[0, 1, 1, min(size)]]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_singular_values_ignore_scale_and_the_order_of_rows_and_columns(size: tuple[int, int]) -> None:
    maps = (torch.rand(3, 4, *size) > 0.6).float()
    score = rank(maps)
    shuffled = maps[:, :, torch.randperm(size[0])][..., torch.randperm(size[1])]
    assert torch.equal(rank(shuffled), score) and torch.equal(rank(0.3 * maps), score)
    assert score.min() >= 0 and score.max() <= min(size)


@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_singular_values_equal_the_matrix_rank_of_the_time_average(size: tuple[int, int], T: int) -> None:
    spikes = (torch.rand(T, 6, 5, *size) > 0.7).float()
    score = significant_values(LIF(), spikes, spikes)
    assert torch.equal(score, torch.linalg.matrix_rank(spikes.mean(0)).double())


def test_tolerance_may_be_absolute() -> None:
    maps = torch.diag(torch.tensor([1.0, 1e-2, 1e-5]))[None, None]
    assert [rank(maps, t).item() for t in (None, 1e-6, 1e-3, 0.5)] == [3, 3, 2, 1]
    assert rank(1e-3 * maps, 1e-6).item() == 2, "an absolute one is not free of scale"


def test_rounding_noise_does_not_count() -> None:
    """Thirds of a rank-one map are no sum of two maps."""
    row = torch.tensor([1.0, 1 / 3, 2 / 3])
    assert rank((row[:, None] * row)[None, None]).item() == 1


def record(model: nn.Module, batch: Tensor) -> dict[str, tuple[SpikingUnit, Tensor, Tensor]]:
    """Current and spikes of every unit."""
    seen: dict[str, tuple[SpikingUnit, Tensor, Tensor]] = {}
    for name, unit in model.named_modules():
        if isinstance(unit, SpikingUnit):
            unit.neuron.register_forward_hook(
                lambda _, inputs, spikes, name=name, unit=unit: seen.update({name: (unit, inputs[0], spikes)})
            )
    with torch.no_grad():
        model(batch)
    return seen


def naive_svs(unit: SpikingUnit, current: Tensor, spikes: Tensor) -> Tensor:
    ranks = [[float(torch.linalg.matrix_rank(m)) for m in sample] for sample in spikes.mean(0)]
    return torch.tensor(ranks).mean(0)


def naive_sca(unit: SpikingUnit, current: Tensor, spikes: Tensor) -> Tensor:
    leak, carry, total = 0.5, torch.zeros_like(current[0]), torch.zeros(current.shape[2])
    for x in current:
        u = leak * carry + x
        carry = torch.where(u > 1, 0.0, u)
        total += u.abs().sum((2, 3)).sum(0)
    return total / (current.shape[0] * current.shape[1])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("score, naive", [(svs_scores, naive_svs), (sca_scores, naive_sca)], ids=["svs", "sca"])
def test_scores_are_the_means_over_all_samples(score: Callable, naive: Callable, name: str) -> None:
    model, data = small_model(name).train(), batches(name)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    scores = score(model, data)
    assert all(m.training for m in model.modules())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items()), "scoring must not train"
    assert not any(m._forward_hooks for m in model.modules())
    for key, (unit, current, spikes) in record(model.eval(), torch.cat(data)).items():
        close(scores[key].float(), naive(unit, current, spikes).float())


def test_membranes_of_a_learned_leak_are_shown() -> None:
    model = small_model("vggsnn", neuron=PLIF).eval()
    close(
        sca_scores(model, batches("vggsnn"))["features.0"],
        sca_scores(small_model("vggsnn"), batches("vggsnn"))["features.0"],
    )


def test_magnitude_sums_the_weights_that_are_used() -> None:
    model = apply(small_model("resnet19"), QPSNN(2))
    scores = magnitude_scores(model)
    for name, unit in model.named_modules():
        if isinstance(unit, SpikingUnit):
            filters = [c.layer.weight.detach().double() for c in unit.currents if isinstance(c, Synapse)]
            close(scores[name], sum(f.abs().sum((1, 2, 3)) for f in filters))
    assert set(scores) == {n for n, m in model.named_modules() if isinstance(m, SpikingUnit)}


@pytest.mark.parametrize("score", [svs_scores, sca_scores], ids=["svs", "sca"])
@pytest.mark.parametrize("nothing", [[], [small_images("vggsnn", 2)[:0]]], ids=["none", "empty"])
def test_scores_need_samples(score: Callable, nothing: list[Tensor]) -> None:
    with pytest.raises(ConfigError, match="calibration holds no sample"):
        score(small_model("vggsnn"), nothing)


def test_membrane_score_of_a_neuron_that_hides_its_membrane_is_refused() -> None:
    class Hidden(LIF):
        def membranes(self, current: Tensor) -> Tensor:
            return Neuron.membranes(self, current)

    with pytest.raises(ConfigError, match="Hidden does not show its membranes; accepted: LIF and PLIF"):
        sca_scores(small_model("vggsnn", neuron=Hidden), batches("vggsnn"))


def steadiness(scores: list[dict[str, Tensor]]) -> float:
    """Smallest over units of the mean cosine between the score vectors of two batches."""
    worst = [
        torch.stack([F.cosine_similarity(a[name], b[name], dim=0) for a, b in combinations(scores, 2)]).mean().item()
        for name in scores[0]
    ]
    return min(worst)


def test_singular_values_are_steady_from_batch_to_batch(digits: DataBundle) -> None:
    """On data this simple the membrane score is as steady, so that the two are not compared here."""
    torch.manual_seed(0)
    model = apply(digits_net(digits.spec, widths=(8, 16, "P", 16), T=4), QPSNN(4))
    Trainer(TrainConfig(epochs=3, batch_size=32, learning_rate=0.1), seed=0).fit(model, digits)
    data = [torch.as_tensor(digits.train.inputs[i : i + 64]) for i in range(0, 320, 64)]
    assert steadiness([svs_scores(model, [batch]) for batch in data]) > 0.99
