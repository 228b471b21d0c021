"""The CIFAR-size network of the training benchmark, written on each library.

64 64 P 128 128 P 256 256 P and a linear readout averaged over T; batch norm after every 3x3 convolution, 2x2 average
pooling, neurons with leak 0.5, hard reset without gradient and an arctangent surrogate; images 3x32x32, shown T times.
Every builder gives a module from (N, 3, 32, 32) to (N, 10) that starts at rest at each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WIDTHS: tuple[int | str, ...] = (64, 64, "P", 128, 128, "P", 256, 256, "P")
FEATURES = 256 * 4 * 4
CLASSES = 10


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return gradients[0] / (1 + (torch.pi * distance).square())


class PlainLif(nn.Module):
    """The loop over (T·N, ...) that everybody writes first."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(0, (self.steps, -1))
        membrane, spikes = torch.zeros_like(x[0]), []
        for current in x.unbind(0):
            membrane = membrane + (current - membrane) * 0.5
            fired = _Spike.apply(membrane - 1.0)
            membrane = membrane * (1.0 - fired.detach())
            spikes.append(fired)
        return torch.cat(spikes)


class Folded(nn.Module):
    """Time as part of the batch, around a stack of layers."""

    def __init__(self, body: nn.Module, steps: int, batch_first: bool = False) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(FEATURES, CLASSES)
        self.steps, self.batch_first = steps, batch_first

    def forward(self, x: Tensor) -> Tensor:
        if self.batch_first:
            out = self.head(self.body(x.repeat_interleave(self.steps, 0)).flatten(1))
            return out.unflatten(0, (-1, self.steps)).mean(1)
        return self.head(self.body(x.repeat(self.steps, 1, 1, 1)).flatten(1)).unflatten(0, (self.steps, -1)).mean(0)


class Stepped(nn.Module):
    """One step after the other; ``run(x, state)`` gives the step's output and the next state."""

    def __init__(
        self, body: nn.Module, run: Callable[[nn.Module, Tensor, Any], tuple[Tensor, Any]], steps: int
    ) -> None:
        super().__init__()
        self.body, self.run, self.steps = body, run, steps

    def forward(self, x: Tensor) -> Tensor:
        total, state = torch.zeros(()), None
        for _ in range(self.steps):
            out, state = self.run(self.body, x, state)
            total = total + out
        return total / self.steps


def stack(neuron: Callable[[], nn.Module], conv: Any = nn.Conv2d, norm: Any = nn.BatchNorm2d, pool: Any = nn.AvgPool2d):
    layers, channels = [], 3
    for width in WIDTHS:
        if width == "P":
            layers.append(pool(2))
        else:
            layers += [conv(channels, width, 3, padding=1, bias=False), norm(width), neuron()]
            channels = int(width)
    return layers


def plain(steps: int) -> nn.Module:
    return Folded(nn.Sequential(*stack(lambda: PlainLif(steps))), steps)


def spikingjelly(steps: int) -> nn.Module:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def make() -> nn.Module:
        return neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan())

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            body = stack(make, layer.Conv2d, layer.BatchNorm2d, layer.AvgPool2d)
            self.body = nn.Sequential(*body, layer.Flatten(), layer.Linear(FEATURES, CLASSES))
            functional.set_step_mode(self, "m")

        def forward(self, x: Tensor) -> Tensor:
            functional.reset_net(self)
            return self.body(x.unsqueeze(0).repeat(steps, 1, 1, 1, 1)).mean(0)

    return Net()


def snntorch(steps: int) -> nn.Module:
    import snntorch as library
    from snntorch import surrogate

    def make() -> nn.Module:
        return library.Leaky(beta=0.5, spike_grad=surrogate.atan(), reset_mechanism="zero", reset_delay=False)

    def run(body: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        membranes = {} if state is None else state
        for index, module in enumerate(body):
            if isinstance(module, library.Leaky):
                membrane = membranes[index] if index in membranes else module.reset_mem()
                x, membranes[index] = module(x, membrane)
            else:
                x = module(x)
        return x, membranes

    return Stepped(nn.ModuleList([*stack(make), nn.Flatten(), nn.Linear(FEATURES, CLASSES)]), run, steps)


def norse(steps: int) -> nn.Module:
    import norse.torch as library

    def make() -> nn.Module:
        return library.LIFBoxCell(library.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0)))

    body = library.SequentialState(*stack(make), nn.Flatten(), nn.Linear(FEATURES, CLASSES))
    return Stepped(body, lambda body, x, state: body(x, state), steps)


def sinabs(steps: int) -> nn.Module:
    import sinabs.layers as library
    from sinabs.activation import MembraneReset, SingleSpike

    def make() -> nn.Module:
        leaky = library.LIFSqueeze(
            num_timesteps=steps, tau_mem=1.4427, spike_fn=SingleSpike, reset_fn=MembraneReset(), norm_input=True
        )
        return leaky.requires_grad_(False)

    class Net(Folded):
        def forward(self, x: Tensor) -> Tensor:
            for module in self.body:
                if isinstance(module, library.LIFSqueeze):
                    module.reset_states()
            return super().forward(x)

    return Net(nn.Sequential(*stack(make)), steps, batch_first=True)


def bitspike(steps: int) -> nn.Module:
    from bitspike.models import create_model
    from bitspike.neurons import LIF
    from bitspike.ops import ATan

    widths = tuple("A" if width == "P" else width for width in WIDTHS)
    return create_model(
        "vggsnn",
        num_classes=CLASSES,
        T=steps,
        input_shape=(3, 32, 32),
        widths=widths,
        input_scale=1.0,
        neuron=lambda: LIF(0.5, surrogate=ATan(), decay_input=True, detach_reset=True),
    )


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "plain torch": plain,
    "spikingjelly": spikingjelly,
    "snntorch": snntorch,
    "norse": norse,
    "sinabs": sinabs,
    "bitspike": bitspike,
}
