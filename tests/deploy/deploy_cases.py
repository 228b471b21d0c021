"""Deployable networks for the tests of exactness: which ones, with which parameters."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from helpers import calibrate, disturb, has_removable_channels, small_images, small_model
from torch import Tensor, nn

from bitspike.compress import QSNN, PowerOfTwoMembrane, apply
from bitspike.encode import DirectEncoding
from bitspike.layers import AvgPool, ConvBN, LinearBN, MaxPool, Readout, SpikingUnit
from bitspike.models import list_models
from bitspike.neurons import LIF

DEPLOYABLE = [
    name for name in list_models() if has_removable_channels(name)
]  # of units; others: test_deploy_transformers.py


@dataclass(frozen=True)
class Case:
    """A model with quantized weights; ``norm`` says how its batch norms are disturbed."""

    model: str
    membrane_bits: int | None = 4
    neuron: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    norm: str = "lived"
    seed: int = 0

    def __str__(self) -> str:
        parts = [
            self.model,
            f"u{self.membrane_bits or 16}",
            *(f"{k}={v}" for k, v in (self.neuron | self.options).items()),
        ]
        return "-".join(
            [*parts, *([self.norm] if self.norm != "lived" else []), *([f"s{self.seed}"] if self.seed else [])]
        )

    def build(self) -> nn.Module:
        model = small_model(self.model, self.seed, neuron=functools.partial(LIF, **self.neuron), **self.options)
        apply(model, QSNN(membrane_bits=self.membrane_bits, membrane="power-of-two"))
        calibrate(model, self.samples(8))
        NORMS[self.norm](model, torch.Generator().manual_seed(self.seed))
        return model.eval()

    def samples(self, n: int = 5) -> Tensor:
        return small_images(self.model, n, self.seed)


def _norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def _extreme(model: nn.Module, generator: torch.Generator) -> None:
    """Channels take turns at zero, tiny, negative, large and ordinary gains, with large offsets of both signs."""
    gains = torch.tensor([0.0, 1e-7, -1.3, -1e-3, 1.0, 6.0, 0.4])
    offsets = torch.tensor([3.0, -0.2, 0.9, 1.1, -5.0, 0.0, 1.0, 0.3])
    for position, norm in enumerate(_norms(model)):
        index = torch.arange(norm.num_features) + 3 * position
        norm.weight.data.copy_(gains[index % len(gains)])
        norm.bias.data.copy_(offsets[index % len(offsets)])


def _random(model: nn.Module, generator: torch.Generator) -> None:
    for norm in _norms(model):
        n = norm.num_features
        norm.weight.data.copy_(torch.randn(n, generator=generator) * 10 ** (torch.rand(n, generator=generator) * 3 - 2))
        # More than 8 thresholds of 0.5 next to no gain would be refused: 2^21 units each, and 2^24 is the limit.
        norm.bias.data.copy_((torch.randn(n, generator=generator) * 2).clamp(-3, 3))
        norm.running_var.mul_(10 ** (2 * torch.rand(n, generator=generator) - 1))


NORMS = {"lived": lambda model, generator: None, "extreme": _extreme, "random": _random}

LEAKS = [{}, {"leak_shift": 1}, {"leak_shift": 2}, {"leak_shift": 3}, {"leak": 1.0}, {"leak": 0.75}]


def table() -> list[Case]:
    """Every value of every choice on every model, then each pair that could interact."""
    cases = []
    for model in DEPLOYABLE:
        for bits in (2, 4, 8, None):
            for reset in ("hard", "soft"):
                cases.append(Case(model, bits, {"reset": reset}))
                cases.append(Case(model, bits, {"reset": reset}, norm="extreme"))
        for leak in LEAKS[1:]:
            cases.append(Case(model, 8, leak))
            cases.append(Case(model, None, leak | {"reset": "soft"}))
        cases.append(Case(model, 4, {"decay_input": True}))
        cases.append(Case(model, None, {"decay_input": True, "leak_shift": 3, "reset": "soft", "threshold": 0.15}))
        cases.append(Case(model, 4, {"threshold": 0.3, "detach_reset": True}))
    for pool in ("max", "avg"):
        for global_pool in (False, True):
            for bits in (3, None):
                cases.append(Case("vggsnn", bits, {}, {"pool": pool, "global_pool": global_pool}))
    cases.append(Case("vggsnn", 4, {}, {"pool": "avg"}, norm="extreme"))
    cases.append(Case("vggsnn", 4, {}, {"T": 1}))
    return cases


def sweep(count: int = 24) -> list[Case]:
    """Random combinations of everything, batch norms included."""
    rng = np.random.default_rng(20)

    def pick(values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    cases = []
    for seed in range(1, count + 1):
        model = pick(DEPLOYABLE)
        options = {"T": pick([1, 2, 5])}
        if model == "vggsnn":
            options |= {"pool": pick(["max", "avg"]), "global_pool": pick([False, True])}
        neuron = pick(LEAKS) | {
            "reset": pick(["hard", "soft"]),
            "decay_input": pick([False, True]),
            "threshold": pick([0.5, 1.0, 1.7]),
        }
        cases.append(Case(model, pick([2, 3, 4, 6, 8, 12, None]), neuron, options, pick(["lived", "random"]), seed))
    return cases


def unit(layer: nn.Module, *more: nn.Module, **neuron: Any) -> SpikingUnit:
    """Neurons with a 5-bit deployable membrane over the given currents."""
    return SpikingUnit(LIF(membrane=PowerOfTwoMembrane.covering(5, 1.0), **neuron), layer, *more)


class Small(nn.Module):
    """Two convolutions and a readout on (1, 6, 6) samples; ``forward`` is the test's own function of (net, samples)."""

    def __init__(self, run: Any = None, T: int = 3) -> None:
        super().__init__()
        self.encoding = DirectEncoding(T, (30,), 0.01)
        self.first = unit(ConvBN(1, 4, 3))
        self.second = unit(ConvBN(4, 4, 3))
        self.third = unit(ConvBN(4, 4, 3))
        self.dense = unit(LinearBN(4 * 6 * 6, 4))
        self.average, self.maximum, self.relu = AvgPool(2), MaxPool(2), nn.ReLU()
        self.readout = Readout(4, 3, pool=True)
        self.run = run or (lambda net, x: net.readout(net.second(net.first(net.encoding(x)))))

    def forward(self, samples: Tensor) -> Tensor:
        return self.run(self, samples)


def small(run: Any = None, *, seed: int = 0, T: int = 3) -> Small:
    """A :class:`Small` with Q-SNN weights and lived-in batch norms."""
    torch.manual_seed(seed)
    net = Small(run, T)
    apply(net, QSNN(membrane_bits=None))
    return disturb(net, seed).eval()
