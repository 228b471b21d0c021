"""Token mixers against their equations in plain loops, and what their spikes look like."""

from __future__ import annotations

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn

from bitspike.errors import ConfigError
from bitspike.layers import (
    PostActivationBlock,
    PreActivationBlock,
    QKChannelAttention,
    QKTokenAttention,
    SpikingMLP,
    SpikingSelfAttention,
)
from bitspike.layers.attention import spiking_attention, split_heads
from bitspike.models.former import attention_neuron, former_neuron
from bitspike.neurons import Neuron

T, N, HEADS = 3, 2, 3
SIZES = [(6, 3, 5), (15, 7, 1), (9, 1, 1)]  # channels, height, width
MIXERS = {"self": SpikingSelfAttention, "token": QKTokenAttention, "channel": QKChannelAttention}
every_mixer = pytest.mark.parametrize("kind", MIXERS)


def build(kind: str, dim: int, heads: int = HEADS, **options: bool) -> nn.Module:
    torch.manual_seed(1)
    mixer = disturb(MIXERS[kind](dim, heads, former_neuron, attention_neuron, **options))
    for module in mixer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.add_(1)  # every neuron fires now and then
    return mixer.double().eval()


def spikes(*shape: int, seed: int = 0) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6).double()


def self_attention(mixer: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Current of one head: weights between all pairs of tokens first. q, k, v: (T, N, d, tokens)."""
    weights = torch.stack([(q[..., i, None] * k).sum(2) for i in range(q.shape[-1])], 2)  # (T, N, queries, keys)
    return mixer.neuron(torch.stack([(weights[:, :, i, None] * v).sum(-1) for i in range(q.shape[-1])], -1) / 8)


def token_mask(mixer: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    passes = mixer.neuron(sum(q[:, :, c] for c in range(q.shape[2])))
    return torch.stack([passes * k[:, :, c] for c in range(q.shape[2])], 2)


def channel_mask(mixer: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    passes = mixer.neuron(sum(q[..., i] for i in range(q.shape[-1])))
    return torch.stack([passes * k[..., i] for i in range(q.shape[-1])], -1)


EQUATIONS = {"self": self_attention, "token": token_mask, "channel": channel_mask}


def reference(kind: str, mixer: nn.Module, x: Tensor) -> Tensor:
    """Head by head, each with channels of its own, then the projection."""
    q, k = (unit(x).flatten(3) for unit in (mixer.query, mixer.key))
    v = mixer.value(x).flatten(3) if kind == "self" else k
    size = q.shape[2] // mixer.heads
    heads = [
        EQUATIONS[kind](mixer, *(part[:, :, h * size : (h + 1) * size] for part in (q, k, v)))
        for h in range(mixer.heads)
    ]
    return mixer.project(torch.cat(heads, 2).view_as(x))


@every_mixer
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_equals_the_equation_outputs_and_gradients(kind: str, size: tuple[int, int, int], training: bool) -> None:
    mixer = build(kind, size[0]).train(training)
    if training and size[1:] == (1, 1):
        mixer.eval()  # batch statistics of one token say little
    x = spikes(T, N, *size).requires_grad_()
    upstream = torch.randn(T, N, *size, dtype=torch.float64)
    wanted = [x, *mixer.parameters()]
    ours, theirs = mixer(x), reference(kind, mixer, x)
    assert ours.shape == x.shape
    close(ours, theirs)
    for one, other in zip(*(torch.autograd.grad(y, wanted, upstream) for y in (ours, theirs)), strict=True):
        close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_self_attention_counts_exactly_in_either_order(dtype: torch.dtype) -> None:
    q, k, v = (spikes(2, 3, 4, 5, 35, seed=s).to(dtype) for s in range(3))
    ours = spiking_attention(q, k, v)
    other = ((q.mT @ k) @ v.mT).mT
    assert torch.equal(ours, other) and torch.equal(ours, ours.round()) and ours.min() >= 0 and ours.max() > 20


def outputs(model: nn.Module, *arguments: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and output of every neuron, by name, in a forward pass."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Neuron):
            module.register_forward_hook(lambda _m, i, o, name=name: seen.__setitem__(name, (i[0], o)))
    model(*arguments)
    return seen


def test_self_attention_reads_and_gives_spikes() -> None:
    seen = outputs(build("self", 6), spikes(T, N, 6, 3, 5))
    assert list(seen) == ["query.neuron", "key.neuron", "value.neuron", "neuron"]
    assert all(set(out.unique().tolist()) == {0, 1} for _, out in seen.values())
    assert torch.equal(seen["neuron"][0] * 8, (seen["neuron"][0] * 8).round()), "an eighth of a count"


@pytest.mark.parametrize("kind, shape", [("token", (T, N, HEADS, 1, 15)), ("channel", (T, N, HEADS, 2, 1))])
def test_mask_lets_keys_pass_or_not(kind: str, shape: tuple[int, ...]) -> None:
    mixer = build(kind, 6)
    projected: list[Tensor] = []
    mixer.project.register_forward_pre_hook(lambda _m, i: projected.append(i[0]))
    seen = outputs(mixer, spikes(T, N, 6, 3, 5))
    sums, mask = seen["neuron"]
    assert mask.shape == shape and set(mask.unique().tolist()) == {0, 1}
    assert torch.equal(sums, sums.round()), "sums of spikes, not scaled"
    gate, key = mask.expand(T, N, HEADS, 2, 15).bool(), split_heads(seen["key.neuron"][1], HEADS)
    passed = split_heads(projected[0], HEADS)
    assert torch.equal(passed[gate], key[gate]) and not passed[~gate].any() and key[~gate].any()


@every_mixer
def test_memory_grows_with_the_tokens_and_not_with_their_pairs(kind: str) -> None:
    def saved(tokens: int) -> int:
        sizes: dict[int, int] = {}
        model = build(kind, 6)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.__setitem__(t.untyped_storage().data_ptr(), t.numel()) or t, lambda t: t
        ):
            out = model(spikes(1, 1, 6, 1, tokens))  # kept: its graph holds what was saved
        assert out.requires_grad
        return sum(sizes.values())

    small, double, four = saved(100), saved(200), saved(400)
    assert four - double == 2 * (double - small)


@pytest.mark.parametrize("bias, with_bias", [(True, ["query", "key", "value", "project"]), (False, ["project"])])
def test_which_convolutions_have_a_bias(bias: bool, with_bias: list[str]) -> None:
    mixer = build("self", 6, bias=bias)
    names = [n.split(".")[0] for n, p in mixer.named_parameters() if n.endswith("layer.bias") and p is not None]
    assert names == with_bias


@every_mixer
@pytest.mark.parametrize("heads", [0, 4, 12])
def test_heads_that_do_not_divide_the_channels(kind: str, heads: int) -> None:
    with pytest.raises(ConfigError, match=f"heads is {heads}, accepted: divisors of the 6 channels"):
        build(kind, 6, heads)


def test_residual_styles_equal_their_equations() -> None:
    def blocks(style: type[nn.Module]) -> nn.Module:
        return disturb(style(build("self", 6), SpikingMLP(6, 11, former_neuron), former_neuron)).double().eval()

    lif, counts, currents = former_neuron(), 2 * spikes(T, N, 6, 3, 5), torch.randn(T, N, 6, 3, 5).double()
    post = blocks(PostActivationBlock)
    middle = counts + lif(post.mixer(counts))
    close(post(counts), middle + lif(post.mlp(middle)))
    pre = blocks(PreActivationBlock)
    middle = currents + pre.mixer(lif(currents))
    close(pre(currents), middle + pre.mlp(lif(middle)))


def test_mlp_equals_its_equation() -> None:
    mlp = disturb(SpikingMLP(5, 13, former_neuron)).double().eval()
    x = spikes(T, N, 5, 3, 2)
    expand, project = mlp.expand.currents[0], mlp.project
    hidden = torch.stack([expand.norm(expand.layer(step)) for step in x])
    assert hidden.shape[2] == 13
    close(mlp(x), torch.stack([project.norm(project.layer(step)) for step in former_neuron()(hidden)]))
    with pytest.raises(ConfigError, match="0 hidden channels"):
        SpikingMLP(5, 0, former_neuron)
