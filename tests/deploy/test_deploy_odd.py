"""Weights of odd levels, biases and channel shortcuts: torch, reference, engine and emitted C agree on every bit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from c99_host import SANITIZED, compiler, expected, outputs
from c99_host import build as build_c
from deploy_cases import Small, small, unit
from helpers import disturb, images
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bitspike import engine
from bitspike.compress import QSNN, ReScaW, VanillaUniform, apply
from bitspike.deploy import Artifact, artifact, compile, exact_model, integer_logits, ir, reference
from bitspike.deploy.exact import ExactUnit
from bitspike.deploy.fold import source_form
from bitspike.errors import LoweringError
from bitspike.layers import ChannelShortcut, ConvBN
from bitspike.measure.torch_network import torch_network

CC = compiler("gcc", "cc", "clang")


def with_odd_levels(net: Small, bits: int) -> Small:
    """Every weight of ``net`` with odd levels in place of its own quantizer."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and parametrize.is_parametrized(module):
            granularity = "layer" if module is net.readout.layer else "channel"
            module.parametrizations["weight"][0] = ReScaW(bits, granularity=granularity)
    return net


def counts(net: Small, x: Tensor) -> Tensor:
    """Added spikes into a convolution, pooled counts into a linear layer."""
    spikes = net.first(net.encoding(x))
    return net.readout(net.third(net.average(net.second(spikes) + spikes)))


RUNS = {
    "chain": None,
    "dense": lambda net, x: net.readout(net.dense(net.second(net.first(net.encoding(x))))),
    "counts": counts,
}


def assert_equal_everywhere(model: nn.Module, samples: Tensor, folder: Path | None) -> Artifact:
    """Logits and spikes of the exact forward, reference, engine (every level and family) and C (``folder``); logits of
    the plain torch operations that the engine is timed beside."""
    exact = exact_model(model)
    compiled = compile(exact, samples)
    result = reference.run(compiled.graph, samples.numpy())
    fired: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, o: fired.append(o)) for m in exact.layers if isinstance(m, ExactUnit)
    ]
    np.testing.assert_array_equal(integer_logits(exact, samples), result.logits)
    for hook in hooks:
        hook.remove()
    for torch_spikes, (index, spikes) in zip(fired, sorted(result.spikes.items()), strict=True):
        np.testing.assert_array_equal(torch_spikes.numpy(), spikes, err_msg=compiled.graph.names[index])
    for level, family in itertools.product(engine.levels(), engine.kernel_families()):
        net = engine.load(compiled.to_bytes(), level=level, kernels=family)
        np.testing.assert_array_equal(net.run(samples.numpy()), result.logits, f"{level} {family}")
        for index, spikes in result.spikes.items():
            np.testing.assert_array_equal(net.trace(samples.numpy())[net.names[index]], spikes, f"{level} {family}")
    with torch.no_grad():
        np.testing.assert_array_equal(torch_network(compiled.graph)(samples.float()).numpy(), result.logits)
    if folder is not None and CC is not None:
        program = build_c(compiled.graph, folder, CC, SANITIZED)
        assert outputs(program, samples.numpy()) == expected(compiled.graph, samples.numpy())
    return compiled


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_odd_levels_are_exact_everywhere(bits: int, run: str, tmp_path: Path) -> None:
    net = with_odd_levels(small(RUNS[run], seed=bits), bits)
    compiled = assert_equal_everywhere(net, images(5, (1, 6, 6)), tmp_path if run == "dense" else None)
    weighted = [n for n in compiled.graph.nodes if isinstance(n, ir.Conv | ir.Linear | ir.Readout)]
    for node in weighted:
        assert (node.bits, node.odd) == (bits, bits > 1), "the signs are one bit as ever"
        assert (node.weight % 2 == 1).all() and np.abs(node.weight.astype(int)).max() == 2**bits - 1
    result = reference.run(compiled.graph, images(5, (1, 6, 6)).numpy())
    assert all(0 < spikes.mean() < 1 for spikes in result.spikes.values())


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_one_scale_for_all_weights_is_exact_everywhere(bits: int) -> None:
    net = small(RUNS["dense"], seed=bits)
    for layer in (net.second.currents[0].layer, net.dense.currents[0].layer):
        layer.parametrizations["weight"][0] = VanillaUniform(bits)
        layer.parametrizations["weight"].original.data.mul_(4)
    assert_equal_everywhere(net, images(5, (1, 6, 6)), None)


@pytest.mark.parametrize("bits", [2, 3, 5, 7, 8])
def test_odd_levels_take_their_bits_in_the_file(bits: int) -> None:
    compiled = compile(with_odd_levels(small(), bits), images(2, (1, 6, 6)))
    for node in compiled.graph.nodes:
        if isinstance(node, ir.Conv | ir.Linear | ir.Readout):
            packed = artifact.pack_weights(node.weight, node.bits, node.odd)
            assert len(packed) == -(-node.weight.size * bits // 32) * 4


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_reach_is_that_of_the_largest_level(bits: int) -> None:
    net = with_odd_levels(small(), bits)
    assert source_form("second", net.second.currents[0], 1.0, 2.0, 1.0).reach == 4 * 9 * (2**bits - 1) * 2
    assert source_form("first", small().first.currents[0], 1.0, 255.0, 1.0).reach == 9 * 127 * 255


def test_a_quantizer_that_breaks_its_word_is_refused() -> None:
    net = with_odd_levels(small(), 4)
    quantizer = net.second.currents[0].layer.parametrizations["weight"][0]
    good = quantizer.integers
    quantizer.integers = lambda weight: (good(weight)[0] + 1, good(weight)[1])
    with pytest.raises(LoweringError, match=r"'second.currents.0'\): 4-bit odd weights must (be odd|lie)"):
        compile(net, images(2, (1, 6, 6)))
    quantizer.integers = lambda weight: (good(weight)[0] * 300, good(weight)[1])
    with pytest.raises(LoweringError, match=r"'second' has a weight of -?\d+, accepted: integers of 8 bits"):
        compile(net, images(2, (1, 6, 6)))


def biased(net: Small, name: str, seed: int = 0) -> Tensor:
    """Give the convolution of a unit a bias; returns it."""
    layer = getattr(net, name).currents[0].layer
    bias = nn.Parameter(torch.randn(layer.out_channels, generator=torch.Generator().manual_seed(seed)))
    layer.bias = bias
    return bias


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_bias_is_folded_as_a_shift_of_the_mean(name: str, tmp_path: Path) -> None:
    """Batch norm of (Wx + b) is that of Wx with a mean that is smaller by b."""
    net, twin = small(seed=3), small(seed=3)
    bias = biased(net, name)
    getattr(twin, name).currents[0].norm.running_mean.sub_(bias.detach())
    samples = images(6, (1, 6, 6))
    graph = assert_equal_everywhere(net, samples, tmp_path).graph
    other = compile(twin, samples).graph
    for node, same in zip(graph.nodes, other.nodes, strict=True):
        if isinstance(node, ir.Lif) and isinstance(same, ir.Lif):
            assert np.abs(node.bias.astype(int) - same.bias).max() <= 1, "roundings apart"
    assert not np.array_equal(
        graph.nodes[2].bias if name == "first" else graph.nodes[4].bias, _bias_of(small(seed=3), name)
    )
    exact_model(net)(samples).sum().backward()
    assert bias.grad is not None and bias.grad.abs().max() > 0


def _bias_of(net: Small, name: str) -> np.ndarray:
    graph = compile(net, images(6, (1, 6, 6))).graph
    node = graph.nodes[graph.names.index(name)]
    assert isinstance(node, ir.Lif)
    return node.bias


class Residual(Small):
    """A strided unit with a channel shortcut beside its convolution."""

    def __init__(self, wide: int, stride: int, pooled: bool) -> None:
        super().__init__(self.residual)
        shortcut = ChannelShortcut(4, wide, stride)
        if wide > 4:  # as after pruning: not in order, one channel twice
            shortcut.sources[: wide // 2] = torch.arange(wide // 2).flip(0) % 4
        self.block = unit(ConvBN(4, wide, 3, stride=stride), shortcut)
        self.second.currents[0] = ConvBN(wide, 4, 3)
        self.readout = self._modules.pop("readout")  # the last layer is the last to be registered
        self.pooled = pooled

    @staticmethod
    def residual(net: Residual, x: Tensor) -> Tensor:
        spikes = net.first(net.encoding(x))
        edge = net.average(spikes) if net.pooled else spikes
        return net.readout(net.second(net.block(edge, edge)))


@pytest.mark.parametrize("pooled", [False, True], ids=["spikes", "counts"])
@pytest.mark.parametrize(("wide", "stride"), [(4, 1), (7, 2), (19, 3)])
def test_channel_shortcuts_are_exact_everywhere(wide: int, stride: int, pooled: bool, tmp_path: Path) -> None:
    torch.manual_seed(wide)
    net = disturb(apply(Residual(wide, stride, pooled), QSNN(membrane_bits=None)), wide).eval()
    compiled = assert_equal_everywhere(net, images(5, (1, 6, 6)), tmp_path if wide == 7 else None)
    node = compiled.graph.nodes[compiled.graph.names.index("block.currents.1")]
    assert isinstance(node, ir.Conv) and node.bits == 2 and node.stride == stride and not node.odd
    np.testing.assert_array_equal(node.weight, net.block.currents[1].weight().numpy())
