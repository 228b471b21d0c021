"""Spiking transformers and streams of currents: exact forward, reference and engine agree on every bit."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from deploy_cases import NORMS
from helpers import calibrate, close, images, small_images, small_model
from torch import Tensor, nn

from bitspike import engine
from bitspike.compress import MixedBits, StandardizedBinary, apply
from bitspike.deploy import Artifact, compile, exact_model, integer_logits, ir, reference
from bitspike.deploy.exact import ExactModel
from bitspike.deploy.exact_mix import ExactMix
from bitspike.deploy.exact_unit import ExactUnit
from bitspike.errors import LoweringError

WEIGHTS = {
    "binary": StandardizedBinary(8),
    "4-bit": MixedBits(default=4, quantizer="symmetric"),
    "8-bit": MixedBits(default=8, quantizer="symmetric"),
}


@dataclass(frozen=True)
class Former:
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: str = "4-bit"

    def __str__(self) -> str:
        return "-".join([self.model, self.weights, *(f"{k}={v}" for k, v in self.options.items())])

    def build(self, norm: str = "lived", seed: int = 0) -> nn.Module:
        model = apply(small_model(self.model, seed, **self.options), WEIGHTS[self.weights])
        calibrate(model, self.samples(8, seed))
        NORMS[norm](model, torch.Generator().manual_seed(seed))
        return model.eval()

    def samples(self, n: int = 4, seed: int = 0) -> Tensor:
        return (
            images(n, self.options["input_shape"], seed)
            if "input_shape" in self.options
            else small_images(self.model, n, seed)
        )


FORMERS = [
    Former("spikformer"),
    Former("spikformer", {"downsampling": "currents", "T": 1}, "8-bit"),
    Former("spikingformer", {"heads": 1}, "8-bit"),
    Former("spikingformer", {"downsampling": "currents", "patch": 4}, "binary"),
    Former("qkformer", {"mixers": ("token", "channel", "self")}),
    Former(
        "qkformer",
        {"embedding": "events", "depths": (1, 1), "mixers": ("channel", "self"), "dim": 32, "heads": 2},
        "8-bit",
    ),
    Former("bestformer", {}, "binary"),
    Former("bestformer", {"attention_map": "channels", "depth": 1}),
    Former("bestformer", {"streams": "one", "T": 2}, "binary"),
    Former("snnvit", {}, "8-bit"),
    Former("snnvit", {"gate": "decoupled", "alpha": "learned"}),
    Former("snnvit", {"gate": "lif", "stem": "plain", "downsampling": "currents"}, "binary"),
    Former("snnvit", {"gate": "token"}, "binary"),
    Former("sei_resnet", {"units": (1, 2, 1), "input_shape": (2, 12, 20)}, "binary"),
]
every_former = pytest.mark.parametrize("former", FORMERS, ids=str)


def torch_spikes(exact: ExactModel, samples: Tensor) -> list[np.ndarray]:
    """Spikes of every layer of neurons, in the order of the graph."""
    fired: list[np.ndarray] = []
    layers = [layer for layer in exact.layers if isinstance(layer, ExactUnit | ExactMix)]
    hooks = [layer.register_forward_hook(lambda _m, _i, out: fired.append(out.numpy())) for layer in layers]
    with torch.no_grad():
        exact(samples.transpose(0, 1) if samples.dim() == 5 else samples)
    for hook in hooks:
        hook.remove()
    return fired


def assert_equal_bits(model: nn.Module, samples: Tensor) -> tuple[Artifact, reference.Result]:
    """Logits and spikes of the exact forward, the reference and the engine."""
    exact = exact_model(model)
    compiled = compile(exact, samples)
    result = reference.run(compiled.graph, samples.numpy())
    np.testing.assert_array_equal(integer_logits(exact, samples, batch_size=3), result.logits)
    for ours, (index, spikes) in zip(torch_spikes(exact, samples), sorted(result.spikes.items()), strict=True):
        np.testing.assert_array_equal(ours, spikes, err_msg=compiled.graph.names[index])
    network = engine.load(compiled.to_bytes())
    np.testing.assert_array_equal(network.run(samples.numpy()), result.logits)
    trace = network.trace(samples.numpy())
    for index, spikes in result.spikes.items():
        np.testing.assert_array_equal(trace[compiled.graph.names[index]], spikes)
    return compiled, result


@every_former
@pytest.mark.parametrize("norm, seed", [("lived", 0), ("random", 1), ("extreme", 2)])
def test_exact_forward_reference_and_engine_agree(former: Former, norm: str, seed: int) -> None:
    assert_equal_bits(former.build(norm, seed), former.samples(4, seed))


@every_former
def test_integers_are_near_the_float_network(former: Former) -> None:
    model, samples = former.build(), former.samples(12)
    with torch.no_grad():
        real, integer = model(samples).sum(0).flatten(), exact_model(model)(samples).sum(0).flatten()
    assert real.std() > 0
    assert np.corrcoef(real, integer)[0, 1] > 0.85


@every_former
def test_they_agree_after_training_on_the_integers(former: Former) -> None:
    """Gradients of the exact forward are finite and reach what the float forward's reach; steps change the integers."""
    model, samples = former.build(), former.samples(4)
    (model.train()(samples).square().mean()).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    exact = exact_model(model.eval())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02)
    before = integer_logits(exact, samples)
    for _ in range(2):
        optimizer.zero_grad()
        exact(samples).square().mean().backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        assert all(g is None or g.isfinite().all() for g in gradients.values())
        reached = {name for name, g in gradients.items() if g is not None and g.abs().max() > 0}
        assert len(reached & learned) > 0.8 * len(learned)
        optimizer.step()
    _, result = assert_equal_bits(model, samples)
    assert not np.array_equal(result.logits, before)


@pytest.mark.parametrize("former", FORMERS[::3], ids=str)
def test_frames(former: Former) -> None:
    model = former.build()
    steps = model.encoding.time_steps
    frames = torch.stack([former.samples(3, seed) for seed in range(steps)], 1)
    compiled, _ = assert_equal_bits(model, frames)
    assert compiled.graph.input.frames == steps


def nodes(former: Former, kind: type) -> list[Any]:
    graph = compile(former.build(), former.samples()).graph
    return [node for node in graph.nodes if isinstance(node, kind)]


def test_which_nodes_they_become() -> None:
    """One stream for each sum that a block adds to, max pooling of streams where currents are pooled, masks as gates."""
    assert len(nodes(Former("spikingformer"), ir.Stream)) == 1 + 2 * 2 + 1
    assert len(nodes(Former("spikingformer", {"downsampling": "currents"}), ir.MaxPool)) == 1
    assert not nodes(Former("spikformer"), ir.Stream) and len(nodes(Former("spikformer"), ir.Add)) == 1 + 2 * 2
    former = Former("qkformer", {"mixers": ("token", "channel", "self")})
    assert [(n.heads, n.axis) for n in nodes(former, ir.Reduce)] == [(3, "channels"), (1, "tokens")]
    assert len(nodes(former, ir.Gate)) == 2 and len(nodes(former, ir.Attention)) == 1
    former = Former("bestformer", {"depth": 1})
    assert [n.transpose for n in nodes(former, ir.MatMul)] == ["left", "none"]
    streams = nodes(former, ir.Stream)
    assert [n.multiplier.shape[:2] for n in streams if n.multiplier.shape[1] > 1] == [(1, 3)], (
        "a gain per step and head"
    )
    assert [len(n.sources) for n in streams[-4:]] == [3, 3, 1, 1], "two states and a branch; features of both heads"
    assert len(nodes(former, ir.Concat)) == 1
    assert len(nodes(Former("snnvit"), ir.Mix)) == len(nodes(Former("snnvit"), ir.Product)) == 2


def test_gains_of_every_step_and_head_are_deployed() -> None:
    former = Former("bestformer", {"depth": 1}, "binary")
    model, samples = former.build(), former.samples(8)
    before = integer_logits(model, samples)
    attention = model.body.blocks[0].mixer.current
    with torch.no_grad():
        attention.signed_gain.copy_(torch.tensor([[0.5, -3.0], [1.0, 0.0], [2.0, 0.7]]).view(3, 1, 2, 1, 1))
    assert_equal_bits(model, samples)
    assert not np.array_equal(integer_logits(model, samples), before)
    (node,) = [n for n in compile(model, samples).graph.nodes if isinstance(n, ir.Stream) and n.multiplier.shape[1] > 1]
    gains = node.multiplier[0].reshape(3, 2, 8) / 2.0 ** node.shift.reshape(2, 8)
    np.testing.assert_allclose(
        gains / gains[2, 0], np.array([[0.25, 1.5], [0.5, 0], [1, 0.35]])[..., None] * np.ones(8), atol=1e-4
    )


def test_a_count_on_the_threshold_fires_only_where_the_neuron_says_so() -> None:
    """Sums of spikes meet thresholds exactly: above it for LIF, and from it on for the neurons of BESTformer."""
    for former, least in ((Former("qkformer"), 2), (Former("bestformer"), 2)):
        graph = compile(former.build(), former.samples()).graph
        counted = [
            n
            for n in graph.nodes
            if isinstance(n, ir.Lif) and isinstance(graph.nodes[n.sources[0]], ir.Reduce | ir.MatMul)
        ]
        assert counted
        for node in counted:
            assert (-(-node.threshold // node.multiplier[0]) == least).all()


def test_deepcopies_are_independent() -> None:
    former = Former("bestformer", {"depth": 1})
    exact, samples = exact_model(former.build()), former.samples()
    before = integer_logits(exact, samples)
    twin = copy.deepcopy(exact)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(-2)
    np.testing.assert_array_equal(integer_logits(exact, samples), before)
    assert not np.array_equal(integer_logits(twin, samples), before)


def test_scaled_logits_are_the_real_ones() -> None:
    former = Former("bestformer", {}, "8-bit")
    exact, samples = exact_model(former.build()), former.samples()
    with torch.no_grad():
        steps, scale = exact.integer_steps(samples)
        close(exact(samples), (steps * scale).float())
    assert torch.equal(steps, steps.round())


REFUSED = {
    "map-of-counts": (
        Former("bestformer", {"map_neuron": nn.Identity}),
        r"'body.blocks.0.mixer.current.counts' reads an edge of kind stream",
    ),
    "odd-sizes-averaged": (
        Former("sei_resnet", {"input_shape": (2, 9, 8)}),
        r"'trunk.2.shortcut.pool': windows of 2 pixels cover \(9, 8\) pixels in part only",
    ),
    "convolution-of-averages": (
        Former("sei_resnet", {"downsampling": "conv"}),
        r"'trunk.2.shortcut.conv' reads a current of real numbers; weights meet spikes, counts or the image only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_layer_and_the_reason(case: str) -> None:
    former, message = REFUSED[case]
    with pytest.raises(LoweringError, match=message):
        compile(former.build(), former.samples())


def test_weights_that_are_not_quantized_are_refused() -> None:
    with pytest.raises(LoweringError, match=r"weights of 'stages.0.tokenizer.stack.1' are full precision"):
        exact_model(small_model("spikingformer"))
