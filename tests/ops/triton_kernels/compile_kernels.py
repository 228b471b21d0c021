"""Compiles every kernel for a GPU, through the code that launches it, on a machine that need not have one.

python compile_kernels.py CAPABILITY prints a JSON list: one entry per launch, with what the compiler made of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from bitspike.ops import LeakyProgram, Sigmoid, WindowProgram
from bitspike.ops.triton import bits, leaky, pack_bits, unpack_bits, window

FEATURES = 2**17  # enough for the widest blocks


class Elsewhere:
    """Stands for the driver of a GPU of this target, as far as compiling asks for one."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def record(launches: list[dict[str, Any]]) -> Callable[..., None]:
    """In place of a launch: bind its arguments, compile, take notes."""
    run = JITFunction.run

    def compile_only(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        made = run(kernel, *args, grid=grid, warmup=True, **options)
        features = args[0].shape[-1]
        launches.append({"name": made.metadata.name, "hash": made.hash, "ptx": made.asm["ptx"], "features": features})

    return compile_only


def scan(steps: int, features: int, dtype: torch.dtype, learned: bool) -> None:
    current = torch.ones(steps, features, dtype=dtype, requires_grad=True)
    leak: float | Tensor = torch.tensor(0.5, requires_grad=True) if learned else 0.5
    leaky.run(current, LeakyProgram("hard", 1.0, Sigmoid(), leak)).sum().backward()


def main() -> None:
    driver.set_active(Elsewhere(int(sys.argv[1])))
    launches: list[dict[str, Any]] = []
    JITFunction.run = record(launches)  # type: ignore[method-assign]
    bits.refusal = lambda tensor: None
    for steps in (9, 16, 17):
        scan(steps, FEATURES, torch.float32, learned=True)
    scan(4, 1, torch.bfloat16, learned=False)
    learned = torch.ones(3, 1, requires_grad=True), torch.ones(1, requires_grad=True)
    window.run(torch.ones(5, FEATURES), WindowProgram(*learned, Sigmoid())).sum().backward()
    pack_bits(torch.ones(4096))
    unpack_bits(torch.ones(512, dtype=torch.uint8), torch.ones(4096))
    print(json.dumps({"triton": triton.__version__, "launches": launches}))


if __name__ == "__main__":
    main()
