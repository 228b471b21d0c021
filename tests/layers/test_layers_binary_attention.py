"""Attention with binary maps against its equation in plain loops; what the map, its neuron and its gain are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn

from bitspike.errors import BitspikeError, ConfigError
from bitspike.layers import ChannelMapAttention, SpikingSelfAttention, TokenMapAttention
from bitspike.layers.attention import split_heads
from bitspike.models.bestformer import map_neuron, output_neuron
from bitspike.models.former import former_neuron
from bitspike.neurons import Neuron, ReachingLIF

T, N, HEADS = 3, 2, 3
SIZES = [(6, 3, 5), (15, 7, 1), (9, 1, 1)]  # channels, height, width
MIXERS = {"tokens": TokenMapAttention, "channels": ChannelMapAttention}
every_mixer = pytest.mark.parametrize("kind", MIXERS)


def build(kind: str, dim: int, makes_map: Callable[[], nn.Module] = map_neuron, heads: int = HEADS) -> nn.Module:
    torch.manual_seed(1)
    mixer = disturb(MIXERS[kind](dim, heads, T, partial(former_neuron, threshold=0.7), output_neuron, makes_map))
    for module in mixer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.add_(1)  # every neuron fires now and then
    mixer.signed_gain.data.copy_(3 + 4 * torch.rand(mixer.signed_gain.shape))  # few tokens give few counts
    return mixer.double().eval()


def spikes(*shape: int, seed: int = 0) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6).double()


def token_map(mixer: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Counts of one head; q, k, v (T, N, d, tokens)."""
    tokens = range(q.shape[-1])
    shared = torch.stack([torch.stack([(q[..., i] * k[..., j]).sum(2) for j in tokens], -1) for i in tokens], -2)
    attends = mixer.map_neuron(shared)  # (T, N, queries, keys)
    return torch.stack([sum(attends[:, :, i, j, None] * v[..., j] for j in tokens) for i in tokens], -1)


def channel_map(mixer: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    channels = range(q.shape[2])
    shared = torch.stack([torch.stack([(k[:, :, c] * v[:, :, e]).sum(-1) for e in channels], -1) for c in channels], -2)
    together = mixer.map_neuron(shared)  # (T, N, channels of K, channels of V)
    return torch.stack([sum(together[:, :, c, e, None] * q[:, :, c] for c in channels) for e in channels], 2)


EQUATIONS = {"tokens": token_map, "channels": channel_map}


def reference(kind: str, mixer: nn.Module, x: Tensor) -> Tensor:
    """Head by head, with each step's own gain."""
    q, k, v = (unit(x).flatten(3) for unit in (mixer.query, mixer.key, mixer.value))
    size = q.shape[2] // mixer.heads
    heads = []
    for h in range(mixer.heads):
        counts = EQUATIONS[kind](mixer, *(part[:, :, h * size : (h + 1) * size] for part in (q, k, v)))
        heads.append(torch.stack([counts[t] * 0.125 * mixer.signed_gain[t, 0, h, 0, 0].abs() for t in range(T)]))
    return mixer.project(mixer.neuron(torch.cat(heads, 2)).view_as(x))


@every_mixer
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_equals_the_equation_outputs_and_gradients(kind: str, size: tuple[int, int, int], training: bool) -> None:
    mixer = build(kind, size[0]).train(training and size[1:] != (1, 1))
    x = spikes(T, N, *size).requires_grad_()
    upstream = torch.randn(T, N, *size, dtype=torch.float64)
    wanted = [x, *mixer.parameters()]
    ours, theirs = mixer(x), reference(kind, mixer, x)
    assert ours.shape == x.shape
    close(ours, theirs)
    for one, other in zip(*(torch.autograd.grad(y, wanted, upstream) for y in (ours, theirs)), strict=True):
        close(one, other)


def outputs(model: nn.Module, *arguments: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and output of every neuron, by name, in a forward pass."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Neuron):
            module.register_forward_hook(lambda _m, i, o, name=name: seen.__setitem__(name, (i[0], o)))
    model(*arguments)
    return seen


@pytest.mark.parametrize("kind, shape", [("tokens", (T, N, HEADS, 15, 15)), ("channels", (T, N, HEADS, 2, 2))])
def test_point_3_maps_queries_keys_and_values_are_bits(kind: str, shape: tuple[int, ...]) -> None:
    mixer = build(kind, 6)
    projected: list[Tensor] = []
    mixer.project.register_forward_pre_hook(lambda _m, i: projected.append(i[0]))
    seen = outputs(mixer, spikes(T, N, 6, 3, 5))
    assert list(seen) == ["query.neuron", "key.neuron", "value.neuron", "map_neuron", "neuron"]
    assert all(set(out.unique().tolist()) == {0, 1} for _, out in seen.values())
    counts, binary = seen["map_neuron"]
    assert binary.shape == shape and torch.equal(counts, counts.round())
    scaled = split_heads(seen["neuron"][0], HEADS) * 8 / mixer.gain
    close(scaled, scaled.round())
    assert set(projected[0].unique().tolist()) == {0, 1}


def test_point_6_the_orders_differ_by_the_map_alone() -> None:
    x = spikes(T, N, 6, 3, 5)
    assert not torch.equal(build("tokens", 6)(x), build("channels", 6)(x))
    counts = [build(kind, 6, nn.Identity) for kind in MIXERS]
    one, other = (mixer(x) for mixer in counts)
    assert torch.equal(one, other)
    for mixer in counts:
        mixer.signed_gain.data.fill_(1)
    plain = SpikingSelfAttention(6, HEADS, partial(former_neuron, threshold=0.7), output_neuron).double().eval()
    plain.load_state_dict({k: v for k, v in counts[0].state_dict().items() if k != "signed_gain"}, strict=False)
    plain.project.layer.bias.data.zero_()
    assert torch.equal(counts[0](x), plain(x)), "counts for a map: Spikingformer's attention"


def test_point_7_the_map_neuron_resets_softly_and_fires_from_a_count_of_two() -> None:
    neuron = map_neuron()
    spike, left = neuron.step(torch.tensor([4.0, 2.0, 1.0, 0.0]))
    assert spike.tolist() == [1, 1, 0, 0] and left.tolist() == [1, 0, 0.5, 0]
    hard = ReachingLIF(reset="hard", decay_input=True)
    assert hard.step(torch.tensor([4.0]))[1].item() == 0
    assert neuron(torch.tensor([[1.0], [1.0], [2.0]])).flatten().tolist() == [0, 0, 1]  # 1/2, 3/4, 11/8


def test_the_gain_starts_at_one_and_stays_positive() -> None:
    mixer = TokenMapAttention(6, HEADS, T, former_neuron, output_neuron, map_neuron)
    assert mixer.gain.shape == (T, 1, HEADS, 1, 1) and torch.equal(mixer.gain, torch.ones_like(mixer.gain))
    assert sum(p.numel() for n, p in mixer.named_parameters() if "gain" in n) == T * HEADS
    mixer.signed_gain.data.fill_(-0.25)
    mixer.gain.sum().backward()
    assert (mixer.gain == 0.25).all() and (mixer.signed_gain.grad == -1).all()


def test_no_convolution_has_a_bias() -> None:
    assert all(m.bias is None for m in build("tokens", 6).modules() if isinstance(m, nn.Conv2d))


@every_mixer
def test_another_number_of_steps_is_refused(kind: str) -> None:
    with pytest.raises(BitspikeError, match="input has 2 steps, accepted: 3, which have a gain each"):
        build(kind, 6)(spikes(2, N, 6, 3, 5))


@every_mixer
def test_unusable_sizes(kind: str) -> None:
    with pytest.raises(ConfigError, match="heads is 4, accepted: divisors of the 6 channels"):
        build(kind, 6, heads=4)
    with pytest.raises(ConfigError, match="time_steps is 0, accepted: 1 or more"):
        MIXERS[kind](6, 3, 0, former_neuron, output_neuron, map_neuron)


def test_memory_is_linear_in_the_tokens_for_maps_of_channels_alone() -> None:
    def saved(kind: str, tokens: int) -> int:
        sizes: dict[int, int] = {}
        model = build(kind, 6)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.__setitem__(t.untyped_storage().data_ptr(), t.numel()) or t, lambda t: t
        ):
            out = model(spikes(T, 1, 6, 1, tokens))  # kept: its graph holds what was saved
        assert out.requires_grad
        return sum(sizes.values())

    growth = {kind: [saved(kind, 2 * n) - saved(kind, n) for n in (40, 80)] for kind in MIXERS}
    assert growth["channels"][1] == 2 * growth["channels"][0]
    assert growth["tokens"][1] > 3 * growth["tokens"][0]
