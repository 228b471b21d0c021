"""Saccadic attention: linear salience equals the pairwise one, gates let whole patches pass, nothing grows with pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import close, disturb
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bitspike.errors import ConfigError
from bitspike.layers import KeySalience, LearnedSalience, SaccadicAttention
from bitspike.layers.attention import split_heads
from bitspike.layers.saccadic import linear_salience, pairwise_salience, relevance
from bitspike.models.former import attention_neuron, former_neuron
from bitspike.neurons import DecoupledSaccadic, Neuron, Saccadic

T, N, DIM, HEADS = 3, 2, 6, 3
GATES: dict[str, Callable[[], Neuron]] = {
    "mix": lambda: Saccadic(T),
    "decoupled": lambda: DecoupledSaccadic(T),
    "lif": attention_neuron,
}
SALIENCES = {"data": KeySalience, "learned": LearnedSalience}
every_gate = pytest.mark.parametrize("gate", GATES)
every_alpha = pytest.mark.parametrize("alpha", SALIENCES)


def spikes(*shape: int, seed: int = 0, rate: float = 0.5) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).double()


def build(gate: str = "mix", alpha: str = "data", heads: int = HEADS, **options: Any) -> SaccadicAttention:
    torch.manual_seed(1)
    salience = SALIENCES[alpha](DIM, heads, former_neuron, **options)
    mixer = disturb(SaccadicAttention(DIM, heads, former_neuron, GATES[gate](), salience))
    for module in mixer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.add_(1)  # every neuron fires now and then
    return mixer.double().eval()


def seen(mixer: SaccadicAttention, x: Tensor) -> dict[str, Tensor]:
    """Queries, values and gate, as heads, and what the projection reads."""
    found: dict[str, Tensor] = {}
    hooks = [
        getattr(mixer, name).register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(name, out))
        for name in ("query", "value", "gate", "salience")
    ]
    hooks.append(mixer.project.register_forward_pre_hook(lambda _m, i: found.__setitem__("kept", i[0])))
    mixer(x)
    for hook in hooks:
        hook.remove()
    return found | {name: split_heads(found[name], mixer.heads) for name in ("query", "value", "kept")}


@pytest.mark.parametrize("size", [(4, 9), (1, 5), (17, 1), (32, 196)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_point_01_linear_salience_equals_the_row_sums_exactly(size: tuple[int, int], dtype: torch.dtype) -> None:
    query, key = (spikes(T, N, HEADS, *size, seed=s, rate=0.3 + 0.3 * s).to(dtype) for s in range(2))
    pairs = torch.stack([(query.sum(-2)[..., i, None] * key.sum(-2)).sum(-1) for i in range(size[1])], -1)
    assert torch.equal(pairwise_salience(query, key), pairs[..., None, :])
    assert torch.equal(linear_salience(query, key), pairwise_salience(query, key))
    assert torch.equal(pairs, pairs.round()) and pairs.any()


@every_gate
def test_point_01_attention_by_pairs_equals_the_linear_one(gate: str) -> None:
    x = spikes(T, N, DIM, 3, 5).requires_grad_()
    ours, pairs = build(gate), build(gate, rule=pairwise_salience)
    assert torch.equal(ours(x), pairs(x))
    upstream = torch.randn(T, N, DIM, 3, 5, dtype=torch.float64)
    for one, other in zip(
        *(torch.autograd.grad(m(x), [x, *m.parameters()], upstream) for m in (ours, pairs)), strict=True
    ):
        close(one, other)


def test_point_02_relevance_has_rank_one() -> None:
    matrix = relevance(*(spikes(T, N, HEADS, 4, 9, seed=s) for s in range(2)))
    assert matrix.shape == (T, N, HEADS, 9, 9) and torch.linalg.matrix_rank(matrix).max() == 1


@every_alpha
@every_gate
def test_point_03_whole_patches_pass_or_are_zero(gate: str, alpha: str) -> None:
    found = seen(build(gate, alpha), spikes(T, N, DIM, 3, 5))
    mask, value, kept = found["gate"], found["value"], found["kept"]
    assert mask.shape == (T, N, HEADS, 1, 15) and set(mask.unique().tolist()) == {0, 1}
    assert set(kept.unique().tolist()) == {0, 1} and (kept <= value).all()
    passes = mask.expand_as(value).bool()
    assert torch.equal(kept[passes], value[passes]) and not kept[~passes].any() and value[~passes].any()


@every_alpha
@pytest.mark.parametrize("size", [(3, 5), (7, 1), (1, 1)], ids=str)
def test_equals_the_equations_with_gradients(size: tuple[int, int], alpha: str) -> None:
    """Head by head and patch by patch, after the neurons of Q, K and V."""
    mixer = build("mix", alpha)
    x = spikes(T, N, DIM, *size).requires_grad_()
    q, v = (split_heads(unit(x), HEADS) for unit in (mixer.query, mixer.value))
    if alpha == "data":
        scale = split_heads(mixer.salience.key(x), HEADS).sum((-1, -2)) / (size[0] * size[1])
    else:
        scale = mixer.salience.log_factor.exp().expand(T, N, HEADS)
    heads = []
    for h in range(HEADS):
        gates = [mixer.gate(scale[:, :, h] * q[:, :, h, :, n].sum(2)) for n in range(size[0] * size[1])]
        heads.append(torch.stack([g[:, :, None] * v[:, :, h, :, n] for n, g in enumerate(gates)], -1))
    theirs = mixer.project(torch.cat(heads, 2).view_as(x))
    ours = mixer(x)
    close(ours, theirs)
    upstream = torch.randn_like(ours)
    wanted = [x, *mixer.parameters()]
    for one, other in zip(*(torch.autograd.grad(y, wanted, upstream) for y in (ours, theirs)), strict=True):
        close(one, other)


@pytest.mark.parametrize("gate", ["mix", "decoupled"])
def test_point_04_a_gate_sees_its_own_and_earlier_steps_only(gate: str) -> None:
    """Behind the neurons of Q and K: saliences of step t reach the bits of later steps with "mix", of step t with both."""
    mixer = build(gate)
    p = 3 * torch.rand(T, N, HEADS, 1, 200, dtype=torch.float64)
    for t in range(T):
        changed = p.clone()
        changed[t] = 3 - p[t]
        differs = [(a != b).any().item() for a, b in zip(mixer.gate(p), mixer.gate(changed), strict=True)]
        assert differs == [step == t or (step > t and gate == "mix") for step in range(T)]
    x = spikes(T, N, DIM, 3, 5)
    later = torch.cat([x[:2], 1 - x[2:]])
    close(mixer(later)[:2], mixer(x)[:2])


@every_gate
def test_point_06_patches_may_be_permuted_and_query_channels_exchanged(gate: str) -> None:
    mixer, x, order = build(gate), spikes(T, N, DIM, 1, 15), torch.randperm(15)
    close(mixer(x[..., order]), mixer(x)[..., order])
    assert torch.equal(seen(mixer, x[..., order])["gate"], seen(mixer, x)["gate"][..., order])
    before, conv = mixer(x), mixer.query.currents[0]
    exchanged = torch.tensor([1, 0, 3, 2, 5, 4])  # within each head of two channels
    with torch.no_grad():
        conv.layer.weight.copy_(conv.layer.weight[exchanged])
        for values in (conv.norm.weight, conv.norm.bias, conv.norm.running_mean, conv.norm.running_var):
            values.copy_(values[exchanged].clone())
    assert torch.equal(mixer(x), before)


class Shapes(TorchDispatchMode):
    """Shapes of all tensors that operations give."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.sizes.append(tensor.numel())
                self.shapes.append(tuple(tensor.shape))
        return out


@every_alpha
@every_gate
def test_point_07_work_grows_with_the_tokens_and_not_with_their_pairs(gate: str, alpha: str) -> None:
    def work(tokens: int) -> int:
        with Shapes() as shapes:
            build(gate, alpha)(spikes(T, 1, DIM, 1, tokens)).sum().backward()
        assert not any(shape.count(tokens) > 1 for shape in shapes.shapes)
        return sum(shapes.sizes)

    small, double, four = work(104), work(208), work(416)  # multiples of 8: spikes are stored as bits, in whole bytes
    assert four - double == 2 * (double - small)


@every_gate
def test_point_08_silent_keys_let_nothing_pass(gate: str) -> None:
    mixer = build(gate)
    mixer.salience.key.currents[0].norm.bias.data.fill_(-100)
    x = spikes(T, N, DIM, 3, 5).requires_grad_()
    found = seen(mixer, x)
    assert found["query"].any() and not found["gate"].any() and not found["kept"].any()
    mixer(x).sum().backward()
    assert x.grad.isfinite().all() and all(p.grad.isfinite().all() for p in mixer.parameters() if p.grad is not None)


def test_decisions_of_the_decoupled_gate_are_comparisons_of_whole_numbers() -> None:
    """p > v is Q' sum(K') > v N: an integer against the floor of a constant."""
    mixer, x = build("decoupled"), spikes(T, N, DIM, 3, 5)
    mixer.gate.raw_threshold.data.uniform_(-1, 1)
    found, key = seen(mixer, x), split_heads(mixer.salience.key(x), HEADS)
    counts = linear_salience(found["query"], key).long()
    limits = (mixer.gate.thresholds() * 15).floor().long().view(T, 1, 1, 1, 1)
    assert torch.equal(found["gate"].bool(), counts > limits) and 0 < found["gate"].mean() < 1


@pytest.mark.parametrize("heads", [0, 4, 12])
def test_heads_that_do_not_divide_the_channels(heads: int) -> None:
    with pytest.raises(ConfigError, match=f"heads is {heads}, accepted: divisors of the 6 channels"):
        build(heads=heads)
