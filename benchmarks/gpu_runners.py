"""The neurons of the GPU benchmark and everything that can run them, on the same input."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from bitspike.neurons import LIF, PLIF, Neuron, SlidingPSN
from bitspike.ops import ATan, choose, lif_scan

Call = Callable[[Tensor], Tensor]
ORDER = 4
LONGEST_COMPILED = 16  # torch.compile unrolls the loop over steps; longer ones take minutes to compile


@dataclass(frozen=True)
class Case:
    """What is timed: ``neuron`` on currents (steps, features) of ``dtype``."""

    neuron: str
    steps: int
    features: int
    dtype: torch.dtype

    def current(self, device: torch.device) -> Tensor:
        """Normal currents that make about a tenth to a third of the neurons fire; they get a gradient."""
        generator = torch.Generator(device).manual_seed(0)
        shape = self.steps, self.features
        values = torch.randn(shape, dtype=torch.float32, device=device, generator=generator)
        return values.to(self.dtype).requires_grad_()

    def traffic(self, phase: str) -> float:
        """Bytes that have to cross the memory bus: every tensor once, and what is kept for backward.

        phase: "inference", "forward" (with a graph) or "backward".
        """
        values = self.steps * self.features
        size = values * torch.empty(0, dtype=self.dtype).element_size()
        kept = 0.0
        if self.neuron != "sliding_psn":
            eights = -(-self.steps // 8)
            kept = self.features * (eights + 4 * (eights - 1))  # a byte of spikes, a float32 membrane between eights
        return {"inference": 2 * size, "forward": 2 * size + kept, "backward": 3 * size + kept}[phase]


NEURONS: dict[str, Callable[[], Neuron]] = {
    "lif": lambda: LIF(0.5, surrogate=ATan(), detach_reset=True),
    "plif": lambda: PLIF(2.0, surrogate=ATan(), detach_reset=True),
    "sliding_psn": lambda: SlidingPSN(ORDER, surrogate=ATan()),
}


def ours(case: Case) -> Neuron:
    neuron = NEURONS[case.neuron]()
    return neuron.to(case.dtype) if isinstance(neuron, SlidingPSN) else neuron


def kernel(case: Case, device: torch.device) -> tuple[nn.Module, Call]:
    """This library's kernels; raises RuntimeError with the reason where they would not be the ones that run."""
    neuron = ours(case).to(device)
    choice = choose(torch.empty(1, 1, dtype=case.dtype, device=device), neuron.program())
    if choice.name == "reference":
        raise RuntimeError(choice.reason)
    return neuron, neuron


def eager(case: Case, device: torch.device) -> tuple[nn.Module, Call]:
    """The reference: a loop over steps."""
    neuron = ours(case).to(device)
    if isinstance(neuron, SlidingPSN):
        return neuron, lambda current: neuron.fire(neuron.membranes(current), neuron.threshold)
    return neuron, lambda current: lif_scan(current, neuron.rule())


def compiled(case: Case, device: torch.device) -> tuple[nn.Module, Call]:
    """The loop through torch.compile; raises RuntimeError for sequences that it would unroll for minutes."""
    if case.steps > LONGEST_COMPILED:
        raise RuntimeError(f"not compiled above {LONGEST_COMPILED} steps")
    neuron, call = eager(case, device)
    torch._dynamo.reset()
    return neuron, torch.compile(call, dynamic=False)


def spikingjelly(case: Case, device: torch.device) -> tuple[nn.Module, Call]:
    """spikingjelly's neuron of the same equations, on its Triton kernels; raises RuntimeError where it is not installed."""
    if find_spec("spikingjelly") is None:
        raise RuntimeError("spikingjelly is not installed")
    for name in ("LIF", "PLIF"):
        os.environ[f"SJ_{name}_CUDA_IMPLEMENTATION"] = "triton"
    from spikingjelly.activation_based import functional, neuron, surrogate

    same = {"surrogate_function": surrogate.ATan(2.0), "step_mode": "m"}
    leaky = same | {"decay_input": False, "detach_reset": True}
    build = {
        "lif": lambda: neuron.LIFNode(tau=2.0, **leaky),
        "plif": lambda: neuron.ParametricLIFNode(init_tau=2.0, **leaky),
        "sliding_psn": lambda: neuron.SlidingPSN(k=ORDER, **same).to(case.dtype),
    }
    module = build[case.neuron]().to(device)

    def call(current: Tensor) -> Tensor:
        functional.reset_net(module)
        spikes: Tensor = module(current)
        return spikes

    return module, call


RUNNERS = {"kernel": kernel, "eager": eager, "compiled": compiled, "spikingjelly": spikingjelly}
