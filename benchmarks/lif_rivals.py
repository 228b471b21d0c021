"""The same layer of neurons in plain torch and in other libraries: leak 1/2, decaying input, hard reset, threshold 1.

The reset is detached and the surrogate an arctangent where the library offers them; spikes of all steps come back. Every
entry is called with currents (T, 32, features / 32). A library that cannot be imported is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Call = Callable[[Tensor], Tensor]


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return gradients[0] / (1 + (torch.pi * distance).square())


def plain_loop(x: Tensor) -> Tensor:
    """What one writes in a minute, and what torch.compile gets."""
    v = torch.zeros_like(x[0])
    out = []
    for current in x.unbind(0):
        v = v + (current - v) * 0.5
        s = Spike.apply(v - 1.0)
        v = v * (1.0 - s.detach())
        out.append(s)
    return torch.stack(out)


def spikingjelly() -> Call:
    from spikingjelly.activation_based import functional, neuron, surrogate

    layer = neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m")

    def call(x: Tensor) -> Tensor:
        functional.reset_net(layer)
        return layer(x)

    return call


def snntorch() -> Call:
    import snntorch as snn
    from snntorch import surrogate

    layer = snn.Leaky(beta=0.5, spike_grad=surrogate.atan(), reset_mechanism="zero", reset_delay=False)

    def call(x: Tensor) -> Tensor:
        membrane = layer.reset_mem()
        out = []
        for current in x.unbind(0):  # x[t] would make backward quadratic in T
            spikes, membrane = layer(current, membrane)
            out.append(spikes)
        return torch.stack(out)

    return call


def norse() -> Call:
    import norse.torch as library

    cell = library.LIFBoxCell(library.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0)))
    layer = library.Lift(cell)
    return lambda x: layer(x)[0]


def sinabs() -> Call:
    import sinabs.layers as library
    from sinabs.activation import MembraneReset, SingleSpike

    layer = library.LIF(tau_mem=1.4427, spike_fn=SingleSpike, reset_fn=MembraneReset(), norm_input=True)
    layer.requires_grad_(False)

    def call(x: Tensor) -> Tensor:  # it wants the batch before time
        layer.reset_states()
        return layer(x.transpose(0, 1)).transpose(0, 1)

    return call


LIBRARIES = {"spikingjelly": spikingjelly, "snntorch": snntorch, "norse": norse, "sinabs": sinabs}


def rivals() -> tuple[dict[str, Call], dict[str, str]]:
    """Calls by name, and why the others are missing."""
    calls: dict[str, Call] = {"torch loop": plain_loop}
    missing = {}
    for name, make in LIBRARIES.items():
        try:
            calls[name] = make()
        except Exception as error:  # whatever another library's import may raise
            missing[name] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return calls, missing
