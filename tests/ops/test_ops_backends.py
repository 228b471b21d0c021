"""What runs a neuron is chosen in one place, and whatever runs on the reference says why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitspike.compress import PowerOfTwoMembrane
from bitspike.neurons import (
    ASN,
    LIF,
    NEURONS,
    PLIF,
    PSN,
    AdaptiveLIF,
    IntegerLIF,
    Neuron,
    ReachingLIF,
    SlidingPSN,
    TernaryLIF,
)
from bitspike.ops import (
    Backend,
    LeakyProgram,
    LifRule,
    Triangle,
    choose,
    lif_program,
    reference_only,
    register_backend,
    soft_reset,
)
from bitspike.ops.backends import BACKENDS


class Narrower(Triangle):
    """A surrogate of the user's own."""


def membrane() -> PowerOfTwoMembrane:
    return PowerOfTwoMembrane(4, -3)


REFUSED: dict[str, tuple[Callable[[], Neuron], torch.dtype, str]] = {
    "half": (LIF, torch.bfloat16, "there is no kernel for torch.bfloat16"),
    "quantized": (lambda: LIF(membrane=membrane()), torch.float32, "the stored membrane is quantized"),
    "ternary-quantized": (lambda: TernaryLIF(membrane=membrane()), torch.float32, "the stored membrane is quantized"),
    "integer-quantized": (lambda: IntegerLIF(membrane=membrane()), torch.float32, "the stored membrane is quantized"),
    "integer-large": (lambda: IntegerLIF(1 << 23), torch.float32, "its largest integer is above 4194304"),
    "shift": (lambda: LIF(leak_shift=2), torch.float32, "the leak is not a factor"),
    "surrogate": (lambda: LIF(surrogate=Narrower()), torch.float32, "there is no kernel for the surrogate Narrower"),
    "adaptive-quantized": (lambda: AdaptiveLIF(membrane=membrane()), torch.float32, "the stored membrane is quantized"),
    "reaching-quantized": (lambda: ReachingLIF(membrane=membrane()), torch.float32, "the stored membrane is quantized"),
    "asn": (ASN, torch.float32, "the window of levels is learned"),
    "psn": (PSN, torch.float32, "a full matrix over time is a product, torch's own"),
    "mixed": (SlidingPSN, torch.float64, "the taps and the current are of different dtypes or devices"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_runs_on_the_reference_says_why_and_gives_its_results(case: str) -> None:
    build, dtype, reason = REFUSED[case]
    neuron, current = build(), torch.randn(4, 3, 5).to(dtype)
    choice = neuron.backend(current)
    assert (choice.name, choice.reason) == ("reference", reason)
    outputs = neuron(current)
    with reference_only():
        assert torch.equal(neuron(current), outputs)


@pytest.mark.parametrize("neuron", [LIF, PLIF, ReachingLIF, TernaryLIF, AdaptiveLIF, IntegerLIF, SlidingPSN])
def test_kernels_are_the_default(neuron: type[Neuron]) -> None:
    choice = neuron().backend(torch.randn(2, 3))
    assert (choice.name, choice.reason) == ("native", "")


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_tells_what_runs_it(name: str) -> None:
    choice = NEURONS[name]().backend(torch.randn(4, 3))
    assert choice.name == "native" or choice.reason


def test_the_reference_can_be_asked_for_and_blocks_nest() -> None:
    current = torch.randn(2, 3)
    with reference_only():
        with reference_only():
            pass
        choice = LIF().backend(current)
        assert (choice.name, choice.reason) == ("reference", "reference_only() is in force")
    with pytest.raises(RuntimeError, match="on purpose"), reference_only():
        raise RuntimeError("on purpose")
    assert LIF().backend(current).name == "native"


def test_a_device_without_kernels_runs_the_reference() -> None:
    current = torch.randn(2, 3, device="meta")
    assert LIF().backend(current).reason == "there is no kernel for meta"
    assert LIF()(current).device.type == "meta"


def test_a_registered_backend_runs_what_it_does_not_refuse() -> None:
    def refusal(current: Tensor, program: LeakyProgram) -> str | None:
        return "it resets softly" if program.kind == "soft" else None

    register_backend(
        "meta", LeakyProgram, Backend("mine", refusal, lambda current, program: current + program.threshold)
    )
    try:
        current = torch.zeros(2, 3, device="meta")
        assert choose(current, lif_program(LifRule())).name == "mine"
        assert choose(current, lif_program(LifRule(reset=soft_reset))).reason == "it resets softly"
    finally:
        del BACKENDS["meta", LeakyProgram]


def test_a_leak_per_neuron_runs_on_the_reference() -> None:
    program = LeakyProgram("hard", 1.0, Triangle(), leak=torch.rand(3))
    assert choose(torch.randn(2, 3), program).reason == "the leak is not a scalar on the device of the current"


def test_missing_kernels_are_an_error_that_says_what_to_do() -> None:
    code = "import sys; sys.modules['bitspike._training'] = None; import bitspike.ops"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode and "bitspike._training, the compiled training kernels, is missing" in done.stderr


def test_an_adaptive_threshold_takes_no_gradient_within_the_step() -> None:
    program = LeakyProgram("adaptive_hard", 1.0, Triangle(), 0.5, spatial=True, strength=1.0, decay=0.5)
    reason = "an adaptive threshold carries gradients to earlier steps, too"
    assert choose(torch.randn(2, 3), program).reason == reason


PARTS = [{"reset": lambda u, s, v: u}, {"temporal": lambda u: u}, {"fire": lambda v, surrogate: (v > 1).to(v.dtype)}]


@pytest.mark.parametrize("part", PARTS, ids=["reset", "temporal", "fire"])
def test_rules_with_functions_of_the_users_own_have_no_program(part: dict) -> None:
    assert lif_program(LifRule(**part)) == "the spike, the reset or the temporal gradient is not one of this library's"
