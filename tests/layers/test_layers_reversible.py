"""Reversible blocks: equations, inverses, and gradients from rebuilt activations against stored ones."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bitspike.compress import StandardizedSign
from bitspike.errors import BitspikeError, ConfigError
from bitspike.layers import ReversibleBlock, SpikingMLP, SpikingSelfAttention, TwoStreams
from bitspike.models.former import former_neuron

SIZES = [(2, 3, 6, 3, 5), (3, 1, 9, 7, 1), (1, 5, 3, 2, 3)]  # steps, samples, channels, height, width
every_size = pytest.mark.parametrize("size", SIZES, ids=str)
neuron, behind = partial(former_neuron, threshold=0.3), partial(former_neuron, threshold=0.05)  # that fire often


def block(dim: int, seed: int) -> ReversibleBlock:
    torch.manual_seed(seed)
    mixer = SpikingSelfAttention(dim, 3, neuron, behind)
    return disturb(ReversibleBlock(mixer, SpikingMLP(dim, 2 * dim + 1, neuron), neuron), seed)


def sequence(dim: int, activations: str, depth: int = 3, dtype: torch.dtype = torch.float64) -> TwoStreams:
    return TwoStreams([block(dim, seed) for seed in range(depth)], activations).to(dtype)


def currents(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(model: TwoStreams, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """(last two streams, gradients of the input and of every parameter) of a loss that tells the streams apart."""
    x = x.clone().requires_grad_()
    streams = model(x)
    loss = sum((s * currents(*x.shape, seed=i).to(s.dtype)).sum() for i, s in enumerate(streams, 5))
    wanted = [x, *(p for p in model.parameters() if p.requires_grad)]
    return [s.detach() for s in streams], list(torch.autograd.grad(loss, wanted))


def plain(model: TwoStreams, x: Tensor) -> tuple[Tensor, Tensor]:
    """The equations, in the dtype of the input."""
    older = newer = x
    for b in model.blocks:
        middle = b.mixer(newer) + (older + newer) / 2
        older, newer = middle, b.mlp(middle) + (newer + middle) / 2
    return older, newer


@every_size
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_rebuilt_gradients_equal_those_through_stored_activations(size: tuple[int, ...], training: bool) -> None:
    x = currents(*size)
    models = [sequence(size[2], activations).train(training) for activations in ("stored", "rebuilt")]
    (out, stored), (same, rebuilt) = (gradients(model, x) for model in models)
    assert all(torch.equal(a, b) for a, b in zip(out, same, strict=True))
    assert len(stored) == 64 and sum(float(g.abs().max()) > 0 for g in stored) > 55
    for one, other in zip(stored, rebuilt, strict=True):
        close(one, other, scale=max(1.0, float(one.abs().max())))


@every_size
def test_streams_and_gradients_are_those_of_the_equations(size: tuple[int, ...]) -> None:
    model, x = sequence(size[2], "stored").eval(), currents(*size).requires_grad_()
    ours, theirs = model(x), plain(model, x)
    wanted = [x, *model.parameters()]
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, scale=100)  # half a step of the grid, 2^-37, at every branch
    loss = [s[0].square().sum() + s[1].abs().sum() for s in (ours, theirs)]
    for one, other in zip(*(torch.autograd.grad(value, wanted) for value in loss), strict=True):
        close(one, other, scale=1000 * max(1.0, float(one.abs().max())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_lower_precisions_rebuild_the_same_spikes(dtype: torch.dtype) -> None:
    x = currents(3, 4, 6, 5, 3).to(dtype)
    (out, stored), (same, rebuilt) = (gradients(sequence(6, a, 4, dtype).train(), x) for a in ("stored", "rebuilt"))
    assert out[0].dtype == stored[0].dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(out, same, strict=True))
    for one, other in zip(stored, rebuilt, strict=True):
        close(one, other, scale=max(1.0, float(one.abs().max())))


def test_binary_weights_learn_the_same() -> None:
    def binary(activations: str) -> TwoStreams:
        model = sequence(6, activations)
        for module in [m for m in model.modules() if isinstance(m, nn.Conv2d)]:
            parametrize.register_parametrization(module, "weight", StandardizedSign())
        return model.train()

    (_, stored), (_, rebuilt) = (gradients(binary(a), currents(2, 3, 6, 3, 5)) for a in ("stored", "rebuilt"))
    for one, other in zip(stored, rebuilt, strict=True):
        close(one, other, scale=max(1.0, float(one.abs().max())))


def test_autocast_is_repeated() -> None:
    def run(activations: str) -> list[Tensor]:
        model, x = sequence(6, activations, 2, torch.float32).train(), currents(2, 3, 6, 3, 5).float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(s.square().sum() for s in model(x))
        loss.backward()
        return [x.grad, *(p.grad for p in model.parameters())]

    for one, other in zip(run("stored"), run("rebuilt"), strict=True):
        close(one, other, scale=max(1.0, float(one.abs().max())))


def test_running_statistics_move_once() -> None:
    stored, rebuilt = (sequence(6, activations).train() for activations in ("stored", "rebuilt"))
    for model in (stored, rebuilt):
        gradients(model, currents(2, 3, 6, 3, 5))
    for (key, one), other in zip(stored.named_buffers(), rebuilt.buffers(), strict=True):
        assert torch.equal(one, other), key
        assert "tracked" not in key or one == 1


def test_random_numbers_are_drawn_again_and_the_generator_goes_on() -> None:
    def run(activations: str) -> tuple[list[Tensor], Tensor]:
        model = sequence(6, activations).train()
        for b in model.blocks:
            b.mixer.add_module("noise", nn.Dropout(0.3))
            b.mlp.add_module("noise", nn.Dropout(0.5))
        torch.manual_seed(3)
        return gradients(model, currents(2, 3, 6, 3, 5))[1], torch.rand(4)

    (stored, after), (rebuilt, same) = run("stored"), run("rebuilt")
    assert torch.equal(after, same)
    for one, other in zip(stored, rebuilt, strict=True):
        close(one, other, scale=max(1.0, float(one.abs().max())))


def test_frozen_shared_and_constant_parts() -> None:
    def run(activations: str) -> list[Tensor]:
        model = sequence(6, activations)
        model.blocks[1].mixer = model.blocks[0].mixer  # a branch that stands at two places
        model.blocks[2].mlp = Constant()
        for p in model.blocks[1].mlp.parameters():
            p.requires_grad_(False)
        return gradients(model, currents(2, 3, 6, 3, 5))[1]

    for one, other in zip(run("stored"), run("rebuilt"), strict=True):
        close(one, other, scale=max(1.0, float(one.abs().max())))


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


class Counting(nn.Module):
    """Gives something else at every call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x / self.calls


def test_a_branch_that_does_not_repeat_itself_is_told() -> None:
    model = sequence(6, "rebuilt")
    model.blocks[1].mlp = Counting()
    with pytest.raises(BitspikeError, match=r"of 270 values were not rebuilt: .*accepted: activations 'stored'"):
        gradients(model, currents(3, 3, 6, 1, 5))


def kept_bytes(activations: str, depth: int) -> int:
    """Bytes, without parameters, that the forward pass keeps for the backward pass."""
    model, sizes = sequence(6, activations, depth).train(), {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = model(currents(2, 3, 6, 3, 5).requires_grad_())
    assert out[0].requires_grad
    return sum(sizes.values())


def test_memory_of_rebuilt_activations_does_not_grow_with_depth() -> None:
    streams = 2 * 8 * 2 * 3 * 6 * 3 * 5
    assert kept_bytes("rebuilt", 2) == kept_bytes("rebuilt", 6) == streams
    assert kept_bytes("stored", 6) > 2 * kept_bytes("stored", 2) > 20 * streams


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("depth", [1, 8])
def test_streams_are_recovered_to_the_bit(depth: int, dtype: torch.dtype) -> None:
    model, x = sequence(6, "stored", depth, dtype).eval(), currents(3, 4, 6, 5, 3).to(dtype)
    states = model.states(x)
    assert len(states) == 2 * depth + 2 and states[0].dtype == torch.float64
    for first in (0, 2 * depth - 2):
        part = TwoStreams(list(model.blocks)[first // 2 :])
        part.fixed = model.fixed
        older, newer = part.inverse(*states[-2:], dtype)
        assert torch.equal(older, states[first]) and torch.equal(newer, states[first + 1])
    close(model(x)[1], states[-1].to(dtype))


def test_point_4_inverse_of_a_block_in_single_precision() -> None:
    b = block(6, 0).eval()
    x0, x1 = currents(2, 3, 4, 6, 5, 3).float()
    with torch.no_grad():
        found = b.inverse(*b(x0, x1))
    assert max((a - b).abs().max() for a, b in zip(found, (x0, x1), strict=True)) < 1e-4


def test_point_5_without_branches_streams_are_running_means() -> None:
    b = block(6, 0).double().eval()
    for synapse in (b.mixer.current.project, b.mlp.current.project):
        nn.init.zeros_(synapse.norm.weight)
        nn.init.zeros_(synapse.norm.bias)
    x0, x1 = currents(2, 3, 4, 6, 5, 3)
    x2, x3 = b(x0, x1)
    assert torch.equal(x2, (x0 + x1) / 2) and torch.equal(x3, (x1 + x2) / 2)


def test_evaluation_needs_no_second_computation() -> None:
    model, calls = sequence(6, "rebuilt", 1).eval(), []
    model.blocks[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model(currents(2, 3, 6, 3, 5))
    assert len(calls) == 1
    rebuilt = copy.deepcopy(model)
    gradients(rebuilt, currents(2, 3, 6, 3, 5))
    assert len(calls) == 3


def test_unusable_sequences() -> None:
    with pytest.raises(ConfigError, match="activations is 'forgotten', accepted: stored, rebuilt"):
        TwoStreams([block(3, 0)], "forgotten")
    with pytest.raises(ConfigError, match="has 28 branches, accepted: up to 26"):
        TwoStreams([block(3, 0)] * 14)
