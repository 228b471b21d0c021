"""After soft-threshold pruning: baking, freezing the mask, rewinding, and the stages made of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import close, digits_net, logits_of, small_images, small_model
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bitspike.compress import (
    QSNN,
    Bake,
    FixedMask,
    FreezeMask,
    MixedBits,
    SoftThreshold,
    SoftThresholdPruning,
    SymmetricUniform,
    applied,
    apply,
    bake,
    freeze_mask,
    rewind,
    sparsity,
    threshold_driver,
    weight_layers,
)
from bitspike.data import DataBundle
from bitspike.errors import ConfigError
from bitspike.learn import Runtime, TrainConfig, Trainer, load_weights, save_weights
from bitspike.models import list_models
from bitspike.ops import quantizer_input, weight_quantizer

CPU = Runtime(accelerator="cpu")


def sparse(name: str = "vggsnn", d: float = 0.1, config: SoftThresholdPruning | None = None) -> nn.Module:
    """A small model whose threshold has risen to ``d``."""
    config = config or SoftThresholdPruning(d)
    model = apply(small_model(name), config)
    threshold_driver(config, [1.0])(model, 1.0)
    return model.eval()


def zeros(model: nn.Module) -> dict[str, Tensor]:
    return {name: layer.weight.detach() == 0 for name, layer in weight_layers(model).items()}


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize(
    "finish", [bake, freeze_mask, lambda model: bake(freeze_mask(model))], ids=["bake", "mask", "both"]
)
@pytest.mark.parametrize("quantize", [False, True], ids=["real", "quantized"])
def test_logits_and_zeros_stay_as_they_are(name: str, finish: Callable[[nn.Module], nn.Module], quantize: bool) -> None:
    model, samples = sparse(name), small_images(name, 3)
    if quantize:
        apply(model, MixedBits(default=6, quantizer="symmetric"))
    logits, before = logits_of(model, samples), sparsity(model)
    parameters = {id(p) for p in model.parameters()}
    assert finish(model) is model
    assert torch.equal(logits_of(model, samples), logits) and sparsity(model) == before and before.ratio > 0.1
    assert not any(isinstance(m, SoftThreshold) for m in model.modules())
    assert {id(p) for p in model.parameters()} == parameters, "an optimizer still knows them"
    for layer in weight_layers(model).values():
        w = quantizer_input(layer).detach()
        assert not torch.signbit(w[w == 0]).any()
        assert isinstance(weight_quantizer(layer), SymmetricUniform) == quantize


def test_baked_weights_are_plain_parameters() -> None:
    model = bake(sparse())
    assert not any(parametrize.is_parametrized(m) for m in model.modules())
    assert set(model.state_dict()) == set(small_model("vggsnn").state_dict())


@pytest.mark.parametrize("finish", [bake, freeze_mask], ids=["bake", "mask"])
@pytest.mark.parametrize("copied", [True, False], ids=["copy", "original"])
def test_a_copy_and_its_original_do_not_touch_each_other(
    finish: Callable[[nn.Module], nn.Module], copied: bool
) -> None:
    model, samples = sparse(), small_images("vggsnn", 3)
    twin, logits = copy.deepcopy(model), logits_of(model, samples)
    finish(twin if copied else model)
    for net in (model, twin, bake(twin), bake(model)):
        assert torch.equal(logits_of(net, samples), logits)


def test_frozen_zeros_stay_and_survivors_train_freely() -> None:
    model, samples = freeze_mask(sparse()), small_images("vggsnn", 8)
    before = {name: layer.weight.detach().clone() for name, layer in weight_layers(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        model(samples).square().mean().backward()
        optimizer.step()
    for name, layer in weight_layers(model).items():
        after, pruned = layer.weight.detach(), before[name] == 0
        assert pruned.any() and (after[pruned] == 0).all() and (after != before[name])[~pruned].any()
        assert (layer.parametrizations["weight"].original[pruned] == 0).all()


def test_a_survivor_that_comes_to_zero_may_leave_it_again() -> None:
    model = freeze_mask(nn.Sequential(nn.Linear(3, 1, bias=False)))
    layer = model[0]
    layer.parametrizations["weight"].original.data[:] = torch.tensor([[0.0, 1.0, 2.0]])
    layer(torch.ones(1, 3)).sum().backward()
    assert torch.equal(layer.parametrizations["weight"].original.grad, torch.ones(1, 3))


def test_masks_of_a_dense_layer_are_full() -> None:
    model = freeze_mask(sparse(config=SoftThresholdPruning(0.2, keep_first=True)))
    masks = [m.mask for m in model.modules() if isinstance(m, FixedMask)]
    assert len(masks) == len(weight_layers(model)) and masks[0].all() and not masks[1].all()


def test_methods_in_order_rebuild_the_structure_and_the_weights_fit(tmp_path: Path) -> None:
    model = sparse()
    for config in (Bake(), FreezeMask(), MixedBits(default=4, quantizer="symmetric")):
        apply(model, config)
    save_weights(tmp_path / "w.safetensors", model)
    fresh = small_model("vggsnn", seed=1)
    for config in applied(model):
        apply(fresh, config)
    load_weights(tmp_path / "w.safetensors", fresh)
    samples = small_images("vggsnn", 3)
    assert torch.equal(logits_of(fresh.eval(), samples), logits_of(model, samples))


def test_masked_weights_and_quantizers_without_zero_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="weights held at zero would come back as other levels"):
        apply(freeze_mask(small_model("vggsnn")), QSNN())
    with pytest.raises(ConfigError, match="no quantized weight is zero"):
        apply(apply(small_model("vggsnn"), QSNN()), FreezeMask())


def test_rewound_survivors_have_their_first_values() -> None:
    initial = copy.deepcopy(small_model("vggsnn").state_dict())
    model, samples = sparse().train(), small_images("vggsnn", 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model(samples).square().mean().backward()
    optimizer.step()
    mask = {name: ~zero for name, zero in zeros(freeze_mask(model)).items()}
    assert rewind(model, initial) is model
    for name, layer in weight_layers(model).items():
        assert (layer.parametrizations["weight"].original[~mask[name]] == 0).all()
    plain = bake(copy.deepcopy(model)).state_dict()
    assert plain.keys() == initial.keys()
    for key, value in plain.items():
        layer = key.removesuffix(".weight")
        expected = initial[key] * mask[layer] if key.endswith(".weight") and layer in mask else initial[key]
        assert torch.equal(value, expected), key
    assert zeros(model).keys() == mask.keys() and all((zeros(model)[n] == ~m).all() for n, m in mask.items())


REWINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "no mask": (sparse, lambda s: s, "have no fixed mask; apply FreezeMask first"),
    "plain": (lambda: small_model("vggsnn"), lambda s: s, "have no fixed mask"),
    "missing": (
        lambda: freeze_mask(sparse()),
        lambda s: {k: v for k, v in s.items() if not k.endswith("readout.layer.weight")},
        "has nothing for 'readout.layer.weight', accepted: shape",
    ),
    "shape": (lambda: freeze_mask(sparse()), lambda s: s | {"readout.layer.bias": torch.zeros(9)}, r"shape \(9,\)"),
}


@pytest.mark.parametrize("case", REWINDS)
def test_rewinding_to_what_does_not_fit_is_refused(case: str) -> None:
    build, change, message = REWINDS[case]
    model = build()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ConfigError, match=message):
        rewind(model, change(small_model("vggsnn", seed=3).state_dict()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_rewinding_to_weights_that_training_has_changed_is_refused() -> None:
    model = small_model("vggsnn")
    alias = model.state_dict()
    with pytest.raises(ConfigError, match=r"shares .* with the model, accepted: a copy"):
        rewind(freeze_mask(apply(model, SoftThresholdPruning())), alias)


def stage(model: nn.Module, data: DataBundle, epochs: int, config: SoftThresholdPruning | None = None) -> nn.Module:
    plan = TrainConfig(epochs=epochs, batch_size=16, learning_rate=0.1, schedule="constant")
    driver = threshold_driver(config, [0.1] * (epochs * len(data.train) // 16)) if config else None
    Trainer(plan, on_step=driver, runtime=CPU).fit(model, data)
    return model


def test_early_pruning_keeps_its_mask_to_the_end(few_digits: DataBundle) -> None:
    config = SoftThresholdPruning(0.25, "pgh", beta=0.1)
    model = apply(digits_net(few_digits.spec, widths=(6, "P", 8)), config)
    stage(model, few_digits, 2, config)
    mask, early = zeros(freeze_mask(model)), sparsity(model)
    stage(model, few_digits, 3)
    assert early.ratio > 0.2 and sparsity(model) == early
    assert all(torch.equal(zeros(model)[name], mask[name]) for name in mask)
    assert sparsity(bake(model)) == early


def test_pruning_at_initialisation_trains_the_survivors_from_their_first_values(few_digits: DataBundle) -> None:
    config = SoftThresholdPruning(0.25, "pgh", beta=0.1)
    model = digits_net(few_digits.spec, widths=(6, "P", 8))
    initial = copy.deepcopy(model.state_dict())
    stage(apply(model, config), few_digits, 2, config)
    rewind(freeze_mask(model), initial)
    kept = sparsity(model)
    first = model.readout.layer.weight.detach().clone()
    close(first, initial["readout.layer.weight"] * (first != 0))
    stage(model, few_digits, 2)
    assert sparsity(model) == kept and not torch.equal(model.readout.layer.weight, first)
