"""How a batch is propagated: the whole sequence at once, or step by step with memory that does not grow with T."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..neurons import FiringRate, Neuron, observe_rates
from .loss import Objective

__all__ = ["Propagated", "Propagation", "per_step", "whole_sequence"]


@dataclass(frozen=True)
class Propagated:
    """What a batch gave, without gradients: logits (T, N, classes), firing rates over all steps, scalar loss."""

    logits: Tensor
    rates: list[FiringRate]
    loss: Tensor


Propagation = Callable[[nn.Module, Tensor, Tensor, Objective, Callable[[Tensor], Any]], Propagated]
"""(model, inputs, targets, objective, backward): a forward pass, and ``backward`` of its loss; fills the gradients."""


def whole_sequence(
    model: nn.Module, inputs: Tensor, targets: Tensor, objective: Objective, backward: Callable[[Tensor], Any]
) -> Propagated:
    """All steps forward, one loss, one backward pass."""
    with observe_rates(model) as rates:
        logits = model(inputs)
    loss = objective(logits, targets, rates)
    backward(loss)
    return Propagated(logits.detach(), [FiringRate(r.name, r.rate.detach()) for r in rates], loss.detach())


def per_step(
    model: nn.Module, inputs: Tensor, targets: Tensor, objective: Objective, backward: Callable[[Tensor], Any]
) -> Propagated:
    """Each step forward and at once backward, as in SLTT (ICCV 2023): only one step's activations are ever stored.

    The loss is the mean over steps of ``objective`` on that step alone. For an objective that is itself a mean over
    steps, and without batch statistics, the gradients are those of :func:`whole_sequence`. In training mode batch norm
    takes its statistics from one step at a time, and its running statistics move T times per batch.
    Raises ConfigError naming a neuron whose gradient is not "spatial", or that has none of its own for a single step.
    """
    steps = time_steps(model, inputs)
    passes = []
    with _carried(model) as restart:
        for t in range(steps):
            restart()
            with observe_rates(model) as rates:
                logits = model(inputs[t] if inputs.dim() == 5 else inputs)
            loss = objective(logits, targets, rates) / steps
            backward(loss)
            detached = [FiringRate(r.name, r.rate.detach()) for r in rates]
            passes.append(Propagated(logits.detach(), detached, loss.detach()))
    means = [
        FiringRate(same[0].name, torch.stack([r.rate for r in same]).mean())
        for same in zip(*(p.rates for p in passes), strict=True)
    ]
    return Propagated(torch.cat([p.logits for p in passes]), means, torch.stack([p.loss for p in passes]).sum())


def _encodings(model: nn.Module) -> list[DirectEncoding]:
    return [m for m in model.modules() if isinstance(m, DirectEncoding)]


def time_steps(model: nn.Module, inputs: Tensor) -> int:
    """T of ``inputs``: its frames, or the steps that the model's encoding repeats a static sample for."""
    if inputs.dim() == 5:
        return len(inputs)
    encodings = _encodings(model)
    if not encodings:
        raise ConfigError(
            f"{type(model).__name__} has no DirectEncoding that says how many steps a static sample takes"
        )
    return encodings[0].time_steps


@contextmanager
def _carried(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Inside, ``model`` takes one step per call and goes on from the membranes that its last call left.

    Gives a function to call before each step. The membranes, one per call of a neuron within a step, are kept here and
    not in the neurons; nothing of them is left behind.
    """
    neurons = [(name, m) for name, m in model.named_modules() if isinstance(m, Neuron)]
    for name, neuron in neurons:
        _check(name, neuron)
    encodings = _encodings(model)
    time_steps = [encoding.time_steps for encoding in encodings]
    states: list[Tensor] = []
    position = [0]

    def restart() -> None:
        position[0] = 0

    def forward(name: str, neuron: Neuron, current: Tensor) -> Tensor:
        here = position[0]
        position[0] += 1
        spikes, state = neuron.step(current[0], states[here] if here < len(states) else None)
        if state.requires_grad:
            raise ConfigError(f"what {name!r} stores is learned, which per-step gradients would not reach")
        states[here : here + 1] = [state]
        return spikes[None]

    try:
        for encoding in encodings:
            encoding.time_steps = 1
        for name, neuron in neurons:
            # On the instance: calls and their hooks stay as they are.
            neuron.__dict__["forward"] = lambda current, name=name, neuron=neuron: forward(name, neuron, current)
        yield restart
    finally:
        for _, neuron in neurons:
            neuron.__dict__.pop("forward", None)
        for encoding, steps in zip(encodings, time_steps, strict=True):
            encoding.time_steps = steps


def _check(name: str, neuron: Neuron) -> None:
    if not neuron.causal:
        raise ConfigError(
            f"{name!r} is a {type(neuron).__name__}, which looks at all steps; per-step needs causal neurons"
        )
    if neuron.temporal_gradient != "spatial":
        raise ConfigError(
            f"temporal_gradient of {name!r} is {neuron.temporal_gradient!r}, accepted in per-step propagation: spatial "
            "(neurons.set_temporal_gradient sets it for LIF and PLIF)"
        )
