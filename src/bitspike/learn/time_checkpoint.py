"""Backpropagation through a long sequence from a few stored membranes: time is cut into chunks, and a chunk's activations
exist only while that chunk goes backward.

The first pass keeps nothing but the membranes between chunks. Backward takes the chunks from last to first, runs each once
more from its membranes, and hands the gradient of these on to the one before. One forward pass more, and memory of one
chunk instead of T steps: "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174), along time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..encode import DirectEncoding
from ..errors import ConfigError
from ..neurons import FiringRate, Neuron, observe_rates
from ..ops.collective import is_shared
from .loss import Objective
from .propagate import Propagated, Propagation, time_steps

__all__ = ["checkpointed"]


def checkpointed(chunk: int) -> Propagation:
    """Whole sequences, like ``whole_sequence``, in the memory of ``chunk`` steps: ``Trainer(propagate=checkpointed(8))``.

    Without batch statistics the gradients are those of ``whole_sequence``, also through the membranes. In training mode
    batch norm takes its statistics from one chunk at a time, and its running statistics move once per chunk.
    Raises ConfigError for a chunk below 1; called, it refuses a neuron that is not causal or takes one length of sequence
    only, an objective that reads layers by hooks, and several processes.
    """
    if chunk < 1:
        raise ConfigError(f"chunk is {chunk}, accepted: 1 or more steps")

    def propagate(
        model: nn.Module, inputs: Tensor, targets: Tensor, objective: Objective, backward: Callable[[Tensor], Any]
    ) -> Propagated:
        _check(model)
        steps = time_steps(model, inputs)
        parts = [_Part(model, inputs, first, min(chunk, steps - first)) for first in range(0, steps, chunk)]
        # What makes outputs differentiable although a first chunk has no differentiable input.
        anchor = inputs.new_zeros((), dtype=torch.get_default_dtype()).requires_grad_()
        states: tuple[Tensor, ...] = ()
        logits, rates = [], []
        for part in parts:
            logits_here, rates_here, *states = _Chunk.apply(part, anchor, *states)
            logits.append(logits_here)
            rates.append(rates_here * (part.steps / steps))
        means = torch.stack(rates).sum(0)
        named = [FiringRate(name, rate) for name, rate in zip(parts[0].names, means.unbind(), strict=True)]
        whole = torch.cat(logits)
        loss = objective(whole, targets, named)
        backward(loss)
        return Propagated(whole.detach(), [FiringRate(r.name, r.rate.detach()) for r in named], loss.detach())

    return propagate


class _Part:
    """The model on ``steps`` steps from ``first`` on. ``names``: of its firing rates, once it ran."""

    def __init__(self, model: nn.Module, inputs: Tensor, first: int, steps: int) -> None:
        self.model, self.steps = model, steps
        self.inputs = inputs[first : first + steps] if inputs.dim() == 5 else inputs
        self.names: list[str] = []

    def run(self, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(logits, stacked firing rates, next states), from the states before, none at the start of the sequence."""
        with _continued(self.model, self.steps, states) as after, observe_rates(self.model) as rates:
            logits = self.model(self.inputs)
        self.names = [r.name for r in rates]
        stacked = torch.stack([r.rate for r in rates]) if rates else logits.new_zeros(0)
        return logits, stacked, *after


class _Chunk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: _Part, anchor: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        ctx.part, ctx.random = part, _random_state(anchor)
        ctx.save_for_backward(*states)
        return part.run(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states = [s.detach().requires_grad_() for s in ctx.saved_tensors]
        with _second_time(ctx.part.model, ctx.random), torch.enable_grad():
            _go_back(ctx.part.run(states), gradients)
        return None, None, *[s.grad for s in states]


class _Steps(torch.autograd.Function):
    """A neuron's steps over a chunk: keeps the current and the first state; goes back with one step's graph at a time."""

    @staticmethod
    def forward(ctx: Any, neuron: Neuron, current: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.neuron = neuron
        ctx.save_for_backward(current, state)
        spikes = torch.empty_like(current)
        for t, x in enumerate(current.unbind(0)):
            spikes[t], state = neuron.step(x, state)
        assert state is not None
        return spikes, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        neuron: Neuron = ctx.neuron
        by_spikes, by_state = gradients
        current, first = ctx.saved_tensors
        states = [first]
        for x in current[:-1].unbind(0):
            states.append(neuron.step(x, states[-1])[1])
        by_current = torch.empty_like(by_spikes)
        for t in reversed(range(len(current))):
            x, state = current[t].detach().requires_grad_(), states.pop()
            state = None if state is None else state.detach().requires_grad_()
            with torch.enable_grad():
                _go_back(neuron.step(x, state), (by_spikes[t], by_state))
            by_current[t] = 0 if x.grad is None else x.grad
            if state is not None:
                by_state = torch.zeros_like(state) if state.grad is None else state.grad
        return None, by_current, by_state if first is not None else None


def _go_back(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Backward through those outputs that depend on anything learned; a carried membrane may be detached."""
    pairs = [(out, gradient) for out, gradient in zip(outputs, gradients, strict=True) if out.requires_grad]
    torch.autograd.backward([out for out, _ in pairs], [gradient for _, gradient in pairs])


@contextmanager
def _continued(model: nn.Module, steps: int, before: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Inside, ``model`` takes ``steps`` steps and its neurons go on from ``before``, one state per call of a neuron.

    Gives the list to which their last states are added.
    """
    after: list[Tensor] = []

    def forward(neuron: Neuron, current: Tensor) -> Tensor:
        spikes, state = _Steps.apply(neuron, current, before[len(after)] if before else None)
        after.append(state)
        return spikes

    neurons = [m for m in model.modules() if isinstance(m, Neuron)]
    encodings = [m for m in model.modules() if isinstance(m, DirectEncoding)]
    lengths = [encoding.time_steps for encoding in encodings]
    try:
        for encoding in encodings:
            encoding.time_steps = steps
        for neuron in neurons:
            # On the instance: calls and their hooks stay as they are.
            neuron.__dict__["forward"] = lambda current, neuron=neuron: forward(neuron, current)
        yield after
    finally:
        for neuron in neurons:
            neuron.__dict__.pop("forward", None)
        for encoding, length in zip(encodings, lengths, strict=True):
            encoding.time_steps = length


@contextmanager
def _second_time(model: nn.Module, random: tuple[Any, ...]) -> Iterator[None]:
    """Inside, random numbers repeat those of the first time; buffers that the forward pass moves are put back at the end."""
    cpu, device, state = random
    buffers = [(b, b.clone()) for b in model.buffers()]
    try:
        with torch.random.fork_rng([] if device is None else [device]):
            torch.set_rng_state(cpu)
            if device is not None:
                torch.cuda.set_rng_state(state, device)
            yield
    finally:
        with torch.no_grad():
            for buffer, kept in buffers:
                if not torch.equal(buffer, kept):
                    buffer.copy_(kept)


def _random_state(like: Tensor) -> tuple[Any, ...]:
    device = like.device if like.is_cuda else None
    return torch.get_rng_state(), device, None if device is None else torch.cuda.get_rng_state(device)


def _check(model: nn.Module) -> None:
    if is_shared():
        raise ConfigError("time checkpoints go backward several times per batch, accepted: a single process")
    for name, module in model.named_modules():
        if module._forward_hooks:
            raise ConfigError(
                f"the output of {name!r} is read by a hook, which would see it without gradients; accepted with time "
                "checkpoints: objectives of logits and firing rates"
            )
        if not isinstance(module, Neuron):
            continue
        if not module.causal:
            raise ConfigError(
                f"{name!r} is a {type(module).__name__}, which looks at all steps; time checkpoints need causal neurons"
            )
        if module.time_steps is not None:
            raise ConfigError(
                f"{name!r} is a {type(module).__name__} of {module.time_steps} steps, accepted with time checkpoints: "
                "neurons of any number of steps"
            )
