"""Exact forward, lowered graph and float network: equal bits for the first two, near values for the third."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from deploy_cases import DEPLOYABLE, Case, Small, small, sweep, table
from helpers import calibrate, close, digits_net, images, synapses
from torch import Tensor, nn

from bitspike.compress import QSNN, PlainSign, apply, freeze_membranes
from bitspike.data import DataBundle
from bitspike.deploy import compile, exact_model, integer_logits, ir, reference
from bitspike.deploy.exact import ExactUnit
from bitspike.learn import evaluate
from bitspike.neurons import observe_rates


def assert_equal_bits(model: nn.Module, samples: Tensor) -> tuple[ir.Graph, reference.Result]:
    """Logits summed and per step, and every spike, of the exact forward against the reference; returns both for more.

    samples: (N, C, H, W) or frames (N, T, C, H, W).
    """
    exact = exact_model(model)
    artifact = compile(exact, samples)
    result = reference.run(artifact.graph, samples.numpy())
    spikes: list[Tensor] = []
    handles = [
        m.register_forward_hook(lambda _m, _i, out: spikes.append(out))
        for m in exact.layers
        if isinstance(m, ExactUnit)
    ]
    with torch.no_grad():
        steps, scale = exact.integer_steps(samples.transpose(0, 1) if samples.dim() == 5 else samples)
        real = exact(samples.transpose(0, 1) if samples.dim() == 5 else samples)
    for handle in handles:
        handle.remove()
    assert torch.equal(steps, steps.round())
    np.testing.assert_array_equal(steps.numpy(), result.steps)
    np.testing.assert_array_equal(integer_logits(exact, samples, batch_size=3), result.logits)
    count = len(result.spikes)
    for torch_spikes, (index, numpy_spikes) in zip(spikes[:count], sorted(result.spikes.items()), strict=True):
        np.testing.assert_array_equal(torch_spikes.numpy(), numpy_spikes, err_msg=artifact.graph.names[index])
    close(real, steps * scale)
    return artifact.graph, result


@pytest.mark.parametrize("case", table(), ids=str)
def test_exact_forward_equals_the_graph(case: Case) -> None:
    model = case.build()
    _, result = assert_equal_bits(model, case.samples())
    if case.norm == "lived":
        assert all(0 < s.mean() < 1 for s in result.spikes.values()), (
            "a layer without spikes, or full of them, tests nothing"
        )


@pytest.mark.parametrize("case", sweep(), ids=str)
def test_exact_forward_equals_the_graph_random_sweep(case: Case) -> None:
    assert_equal_bits(case.build(), case.samples())


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_frames(name: str) -> None:
    case = Case(name, 4)
    frames = torch.stack([case.samples(), Case(name, seed=3).samples(), Case(name, seed=4).samples()], 1)
    graph, result = assert_equal_bits(case.build(), frames)
    assert graph.input.frames == 3 and not (result.steps[0] == result.steps[2]).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_precision_of_the_model_does_not_matter(dtype: torch.dtype) -> None:
    case = Case("resnet19")
    assert_equal_bits(case.build().to(dtype), case.samples())


def test_training_mode_does_not_matter() -> None:
    case = Case("resnet19")
    model = case.build()
    expected = integer_logits(model, case.samples())
    state = copy.deepcopy(model.state_dict())
    np.testing.assert_array_equal(integer_logits(model.train(), case.samples()), expected)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_real_weight_scales() -> None:
    """A binarizer with a real scale per channel folds as well as one with a power of two."""
    model = small()
    for synapse in synapses(model)[1:]:
        synapse.layer.parametrizations["weight"][0] = PlainSign()
    assert_equal_bits(model, images(6, (1, 6, 6)))


def sew(net: Small, x: Tensor) -> Tensor:
    spikes = net.first(net.encoding(x))
    return net.readout(net.third(net.second(spikes) + spikes))


def double_sew(net: Small, x: Tensor) -> Tensor:
    spikes = net.first(net.encoding(x))
    counts = net.second(spikes) + spikes
    counts += net.third(counts)
    return net.readout(net.average(counts))


FORWARDS = {
    "chain": None,
    "spikes-plus-spikes": sew,
    "counts-plus-spikes-pooled": double_sew,
    "torch-add": lambda net, x: net.readout(torch.add(*[net.first(net.encoding(x))] * 2)),
    "method-add": lambda net, x: (lambda s: net.readout(net.third(net.second(s).add(s))))(net.first(net.encoding(x))),
    "dense": lambda net, x: net.readout(net.dense(net.second(net.first(net.encoding(x))))),
    "dense-on-pixels": lambda net, x: net.readout(net.average(net.second(net.first(net.encoding(x))))),
    "pools": lambda net, x: net.readout(net.third(net.average(net.second(net.maximum(net.first(net.encoding(x))))))),
    "shared-module": lambda net, x: net.readout(net.second(net.second(net.first(net.encoding(x))))),
}


@pytest.mark.parametrize("forward", FORWARDS)
def test_networks_written_by_hand(forward: str) -> None:
    assert_equal_bits(small(FORWARDS[forward]), images(6, (1, 6, 6)))


def test_added_spikes_are_counts_up_to_two() -> None:
    graph, result = assert_equal_bits(small(sew), images(6, (1, 6, 6)))
    (add,) = [n for n in graph.nodes if isinstance(n, ir.Add)]
    total = result.spikes[add.left].astype(int) + result.spikes[add.right]
    assert set(np.unique(total)) == {0, 1, 2}


def test_added_spikes_carry_their_value_in_float_too() -> None:
    """With the exact forward of a sum near the float one, the counts 0, 1, 2 cannot have been taken for spikes."""
    model, samples = small(sew), images(16, (1, 6, 6))
    with torch.no_grad():
        difference = (exact_model(model)(samples) - model(samples)).abs().mean()
        assert difference < 0.15 * model(samples).std()


def test_parallel_edges_of_a_unit_are_summed() -> None:
    """Two synapses into one neuron layer: the second multiplier is a rounded ratio of gains."""
    case = Case("resnet19", 8, norm="random", seed=2)
    graph, _ = assert_equal_bits(case.build(), case.samples())
    shortcuts = [n for n in graph.nodes if isinstance(n, ir.Lif) and len(n.sources) == 2]
    assert len(shortcuts) == 3


@pytest.mark.parametrize("beta, fires", [(0.3, False), (1.6, True)])
@pytest.mark.parametrize("variance", [1.0, 1e-2, 1e-8])
def test_offset_is_compared_with_the_threshold_whatever_the_gain(variance: float, beta: float, fires: bool) -> None:
    """A channel that never varied in training has a gain of 300; where its input is silent only its offset counts."""
    model = small(T=1)
    model.first.currents[0].norm.bias.data.fill_(-50)  # no spikes reach the second unit
    model.first.currents[0].norm.weight.data.fill_(0.01)
    norm = model.second.currents[0].norm
    norm.running_mean.zero_(), norm.running_var.fill_(variance), norm.weight.data.fill_(1.0), norm.bias.data.fill_(beta)
    with observe_rates(model) as real, torch.no_grad():
        model(images(4, (1, 6, 6)))
    exact = exact_model(model)
    with observe_rates(exact) as integer, torch.no_grad():
        exact(images(4, (1, 6, 6)))
    assert [r.rate.item() for r in real] == [0.0, float(fires)]
    assert [r.rate.item() for r in integer] == [0.0, float(fires)]


def test_rates_are_observed_and_stored() -> None:
    case = Case("vggsnn")
    exact, samples = exact_model(case.build()), case.samples()
    with observe_rates(exact) as rates, torch.no_grad():
        exact(samples)
    graph = compile(exact, samples).graph
    stored = {name: rate for name, rate in zip(graph.names, graph.rates, strict=True) if not np.isnan(rate)}
    assert list(stored) == [r.name for r in rates]
    np.testing.assert_allclose([r.rate.item() for r in rates], list(stored.values()), rtol=1e-6)


def float_twin(case: Case) -> tuple[nn.Module, nn.Module, Tensor]:
    model = case.build()
    return model, exact_model(model), case.samples(24)


@pytest.mark.parametrize(
    "case",
    [Case("vggsnn", 8), Case("resnet19", 8), Case("resnet18", 4), Case("vggsnn", None, {"reset": "soft"})],
    ids=str,
)
def test_exact_forward_is_near_the_float_forward(case: Case) -> None:
    model, exact, samples = float_twin(case)
    with torch.no_grad():
        real, integer = model(samples), exact(samples)
    assert torch.nn.functional.cosine_similarity(real.flatten(), integer.flatten(), 0) > 0.95


@pytest.mark.parametrize(
    "case",
    [
        Case("vggsnn", 8),
        Case("resnet19", 8),
        Case("resnet18", 4),
        Case("vggsnn", 8, {"reset": "soft", "detach_reset": True}),
    ],
    ids=str,
)
def test_gradients_of_the_exact_forward(case: Case) -> None:
    """Finite, at every parameter, and in the direction of the float forward's."""
    model, exact, samples = float_twin(case)
    upstream = torch.randn(exact(samples).shape)
    gradients = []
    for network in (exact, model):
        model.zero_grad()
        (network(samples) * upstream).sum().backward()
        gradients.append({k: p.grad.clone() for k, p in model.named_parameters()})
    assert len(list(exact.parameters())) == len(list(model.parameters()))
    for key, gradient in gradients[0].items():
        assert gradient.isfinite().all() and gradient.abs().max() > 0, key
    whole = [torch.cat([g.flatten() for g in gs.values()]) for gs in gradients]
    assert torch.nn.functional.cosine_similarity(*whole, 0) > 0.5


@pytest.mark.parametrize("position", ["first", "second"])
def test_gradient_of_batch_norm_is_that_of_the_real_membrane(position: str) -> None:
    """One step: d loss / d gamma, beta by finite differences of the un-rounded map, at the integer distance."""
    model = small(T=1)
    samples = images(5, (1, 6, 6))
    exact = exact_model(model)
    layer = next(m for m in exact.layers if isinstance(m, ExactUnit) and m.name == position)
    inputs, outputs = [], []
    hooks = [
        layer.register_forward_hook(lambda _m, i, _o: inputs.append(i[0].detach())),
        layer.fired.register_forward_hook(lambda _m, _i, o: outputs.append(o)),
    ]
    exact(samples)
    for hook in hooks:
        hook.remove()
    upstream = torch.randn(outputs[0].shape)
    (outputs[0] * upstream).sum().backward()
    synapse = getattr(model, position).currents[0]
    sources, folded = layer.integers()
    with torch.no_grad():
        sums = nn.functional.conv2d(inputs[0][0], sources[0].weight, padding=1)
        u = folded.multiplier[0].view(-1, 1, 1) * sums + folded.bias.view(-1, 1, 1)
        distance = (u - folded.threshold.view(-1, 1, 1) + 0.5) * folded.delta.view(-1, 1, 1)
        weight = upstream[0] * (1 - distance.abs()).clamp_min(0)
        real_sums = sums * (
            layer.edges[0].scale
            * synapse.layer.parametrizations["weight"][0]
            .integers(synapse.layer.parametrizations["weight"].original)[1]
            .view(-1, 1, 1)
        )
        assert weight.abs().max() > 0

        def membrane(parameter: nn.Parameter, shift: float) -> Tensor:
            parameter.add_(shift)
            out = synapse.norm(real_sums)
            parameter.sub_(shift)
            return out

        h = 0.25  # the map is linear in both
        for parameter in (synapse.norm.weight, synapse.norm.bias):
            numeric = (membrane(parameter, h) - membrane(parameter, -h)) / (2 * h)
            torch.testing.assert_close(parameter.grad, (weight * numeric).sum((0, 2, 3)), rtol=1e-4, atol=1e-4)
        # delta * (u - threshold) is the real distance to threshold, up to the rounding of bias and threshold.
        real = synapse.norm(real_sums) - 1.0
        assert ((distance - real).abs() <= 1.51 * folded.delta.view(-1, 1, 1)).all()


def test_exact_model_shares_parameters_and_can_be_trained() -> None:
    model = small()
    exact = exact_model(model)
    assert {id(p) for p in exact.parameters()} == {id(p) for p in model.parameters()}
    labels = torch.arange(24) % 3
    samples = images(24, (1, 6, 6)) // 2 + (60 * labels).view(-1, 1, 1, 1).to(torch.uint8)
    optimizer = torch.optim.SGD([p for p in exact.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(exact(samples).mean(0), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses[-5:]) < 0.8 * losses[0]
    assert_equal_bits(model, samples[:4])


def test_deepcopy_of_an_exact_model_is_independent() -> None:
    exact = exact_model(small())
    twin = copy.deepcopy(exact)
    samples = images(4, (1, 6, 6))
    before = integer_logits(exact, samples)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(-1)
    np.testing.assert_array_equal(integer_logits(exact, samples), before)
    assert not np.array_equal(integer_logits(twin, samples), before)


def test_integer_logits_of_no_samples() -> None:
    assert integer_logits(small(), images(2, (1, 6, 6))[:0]).shape == (0, 3)


@pytest.mark.slow
def test_frozen_trained_network_keeps_working_in_integers(trained_qsnn: nn.Module, digits: DataBundle) -> None:
    """The exact forward costs little against the frozen float network it came from, and predicts as the graph does."""
    model = freeze_membranes(copy.deepcopy(trained_qsnn), "power-of-two")
    exact = exact_model(model)
    real, integer = evaluate(model, digits.test), evaluate(exact, digits.test)
    assert abs(real.accuracy - integer.accuracy) <= 0.02
    _graph, result = assert_equal_bits(model, torch.from_numpy(digits.test.inputs[:40]))
    assert (result.logits.argmax(1) == digits.test.labels[:40]).mean() > 0.7


def test_exact_accuracy_on_digits_net_is_defined_before_training(digits: DataBundle) -> None:
    model = apply(digits_net(digits.spec), QSNN(membrane="power-of-two"))
    calibrate(model, torch.from_numpy(digits.train.inputs[:32]))
    assert_equal_bits(model, torch.from_numpy(digits.test.inputs[:8]))
