"""What training runs on: convolutions in training steps only, and memory that is kept."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest
import torch
from helpers import digits_net
from torch import nn

from bitspike.data import DataBundle
from bitspike.errors import ConfigError
from bitspike.learn import Runtime, TrainConfig, Trainer, allocator, evaluate, keep_freed_memory
from bitspike.learn import trainer as trainer_module
from bitspike.ops import winograd_refusal
from bitspike.options import build

GEOMETRY = (1, 1), (1, 1), (1, 1), 1
GLIBC = platform.libc_ver()[0] == "glibc"


Seen = dict[bool, set[str | None]]


def train(digits: DataBundle, **options: object) -> tuple[nn.Module, Seen, list[dict[str, float]]]:
    """The model, what a convolution would have been in training (True) and in evaluation, and the history."""
    torch.manual_seed(0)
    model = digits_net(digits.spec, widths=(24, 24, "P", 24), T=2)
    seen: Seen = {True: set(), False: set()}

    def note(module: nn.Module, _: object) -> None:
        shapes = torch.zeros(4, 24, 8, 8), torch.zeros(24, 24, 3, 3)
        seen[module.training].add(winograd_refusal(*shapes, *GEOMETRY))

    model.register_forward_pre_hook(note)
    runtime = Runtime(accelerator="cpu", **options)  # type: ignore[arg-type]
    history = Trainer(TrainConfig(epochs=2, batch_size=32), runtime=runtime).fit(model, digits)
    return model, seen, history


def test_winograd_trains_and_evaluation_is_torchs(digits: DataBundle) -> None:
    model, seen, history = train(digits, convolutions="winograd")
    assert seen == {True: {None}, False: {"winograd_convolutions() is not in force"}}
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["validation_accuracy"] > 0.7
    assert evaluate(model, digits.validation).accuracy == history[-1]["validation_accuracy"]


def test_torch_trains_by_default(few_digits: DataBundle) -> None:
    _, seen, _ = train(few_digits)
    assert Runtime().convolutions == "torch" and not Runtime().keep_freed_memory
    assert seen[True] == {"winograd_convolutions() is not in force"}


def test_bad_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="convolutions is 'fft', accepted: torch, winograd"):
        Runtime(convolutions="fft")
    with pytest.raises(ConfigError, match=r"runtime\.keep_freed_memory is 'yes', accepted: bool"):
        build(Runtime, {"keep_freed_memory": "yes"}, "runtime")


def test_memory_that_cannot_be_kept_is_refused(few_digits: DataBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "keep_freed_memory", lambda: False)
    with pytest.raises(ConfigError, match="keep_freed_memory is true, accepted with the C library of GNU only: false"):
        train(few_digits, keep_freed_memory=True)
    train(few_digits)


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError], ids=lambda e: e.__name__)
def test_other_c_libraries_keep_nothing(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: None) -> object:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not keep_freed_memory()


FAULTS = """
import ctypes, resource, runpy, sys
keep = runpy.run_path(sys.argv[1])["keep_freed_memory"]
if sys.argv[2] == "keep":
    assert keep()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        blocks = [library.malloc(size << 20) for size in (96, 12)]
        for block, size in zip(blocks, (96, 12)):
            library.memset(block, 1, size << 20)
            library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(2)
print(faults(4))
"""


@pytest.mark.skipif(not GLIBC, reason="needs the C library of GNU")
def test_kept_memory_is_not_fetched_again() -> None:
    faults = {}
    for how in ("keep", "free"):
        command = [sys.executable, "-c", FAULTS, allocator.__file__, how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr[-2000:]
        faults[how] = int(done.stdout)
    assert faults["keep"] < faults["free"] / 10
