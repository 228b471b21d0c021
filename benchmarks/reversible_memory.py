"""Training memory of a reversible transformer, with stored and with rebuilt activations, and what rounding would do to it.

    python benchmarks/reversible_memory.py --json results/bestformer/memory.json

Memory: one training step (forward and backward) of BESTformer-384 with binary weights on 32x32 images, in a fresh process
each; its peak is the largest resident size, from which the size before the step is taken. "Kept" are the bytes that the
blocks alone keep from the forward for the backward pass.

Rounding: the blocks alone in training mode on random currents. Streams in float32 are rebuilt by the same formulas as
those in fixed point; counted are the neurons' outputs that come out differently, and how far the gradients are off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitspike import compress, measure, models
from bitspike.layers import TwoStreams
from bitspike.neurons import Neuron
from bitspike.ops import average_step, unwound_step

T, DIM, HEADS = 4, 384, 8
ROUNDING_BATCH = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--batches", type=int, nargs="+", default=[8])
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)  # depth, batch, activations: in a process of its own
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(step(int(options.cell[0]), int(options.cell[1]), options.cell[2])))
        return
    result: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "network": {
            "dim": DIM,
            "heads": HEADS,
            "T": T,
            "input_shape": [3, 32, 32],
            "weights": "1 bit but first and heads",
        },
        "threads": 1,
        "environment": measure.environment(),
        "memory": [],
        "rounding": [],
    }
    for depth in options.depths:
        for batch in options.batches:
            for activations in ("stored", "rebuilt"):
                command = [
                    sys.executable,
                    __file__,
                    "--json",
                    os.devnull,
                    "--cell",
                    str(depth),
                    str(batch),
                    activations,
                ]
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                result["memory"].append(json.loads(done.stdout))
                print(done.stdout, end="", file=sys.stderr, flush=True)
        result["rounding"].append(rounding(depth))
        print(json.dumps(result["rounding"][-1]), file=sys.stderr, flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n")


def network(depth: int, activations: str) -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = models.create_model("bestformer", T=T, dim=DIM, depth=depth, heads=HEADS, activations=activations)
    return compress.apply(model, compress.StandardizedBinary()).train()


def step(depth: int, batch: int, activations: str) -> dict[str, Any]:
    """Figures of one training step in this process."""
    model = network(depth, activations)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # there from the first step on
    samples = torch.randint(256, (batch, 3, 32, 32), dtype=torch.uint8)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    before, began = resident("VmRSS"), time.process_time()
    tokens = model.tokenizer(model.encoding(samples))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        streams = model.body(tokens)
    model.readout(streams).square().mean().backward()
    return {
        "depth": depth,
        "batch": batch,
        "activations": activations,
        "peak_bytes": resident("VmHWM"),
        "before_bytes": before,
        "step_bytes": resident("VmHWM") - before,
        "kept_bytes": sum(kept.values()),
        "cpu_seconds": time.process_time() - began,
    }


def resident(field: str) -> int:
    """Bytes of this process, from Linux: resident now (VmRSS), or at most so far (VmHWM)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def rounding(depth: int) -> dict[str, Any]:
    """How well streams in float32 and in fixed point are rebuilt."""
    torch.manual_seed(1)
    x = torch.randn(T, ROUNDING_BATCH, DIM, 8, 8)
    upstream = torch.randn(2, *x.shape)
    body = network(depth, "stored").body
    states = [x, x]
    with torch.no_grad():
        for branch in body.branches:
            states.append(average_step(states[-2], states[-1], branch(states[-1])))
    exact, _ = walk(body.branches, states, upstream, rebuild=False)
    found, rebuilt = walk(body.branches, states, upstream, rebuild=True)
    flipped, spikes = zip(
        *(outputs_that_differ(*b) for b in zip(body.branches, states[1:], rebuilt[1:], strict=False)), strict=True
    )
    stored, again = (fixed_gradients(body, activations, x, upstream) for activations in ("stored", "rebuilt"))
    return {
        "depth": depth,
        "neurons": sum(spikes),
        "float32": {
            "largest_error": max(float((a - b).abs().max()) for a, b in zip(states, rebuilt, strict=False)),
            "outputs_that_differ": sum(flipped),
            "gradient_error": relative(found, exact),
        },
        "fixed_point": {"gradient_error": relative(again, stored)},
    }


def walk(
    branches: Sequence[nn.Module], states: list[Tensor], upstream: Tensor, *, rebuild: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of all parameters, and the states they were taken at: the given ones, or ones rebuilt from the last two."""
    (older, newer), (of_older, of_newer) = states[-2:], upstream
    gradients: list[Tensor] = []
    used = [newer, older]
    for position in reversed(range(len(branches))):
        source = older.detach().requires_grad_()
        current = branches[position](source)
        through, *own = torch.autograd.grad(current, [source, *branches[position].parameters()], of_newer)
        gradients += own
        before = unwound_step(older, newer, current.detach()) if rebuild else states[position]
        older, newer = before, older
        of_older, of_newer = of_newer / 2, of_older + of_newer / 2 + through
        used.append(older)
    return gradients, used[::-1]


@torch.no_grad()
def outputs_that_differ(branch: nn.Module, state: Tensor, rebuilt: Tensor) -> tuple[int, int]:
    """Neuron outputs in ``branch`` that differ between two inputs, and how many there are."""
    seen: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, o: seen.append(o)) for m in branch.modules() if isinstance(m, Neuron)
    ]
    branch(state)
    half = len(seen)
    branch(rebuilt)
    for hook in hooks:
        hook.remove()
    pairs = list(zip(seen[:half], seen[half:], strict=True))
    return sum(int((a != b).sum()) for a, b in pairs), sum(a.numel() for a, _ in pairs)


def fixed_gradients(body: TwoStreams, activations: str, x: Tensor, upstream: Tensor) -> list[Tensor]:
    body.activations = activations
    streams = body(x.clone().requires_grad_())
    return list(torch.autograd.grad(streams, list(body.parameters()), list(upstream)))


def relative(found: list[Tensor], exact: list[Tensor]) -> float:
    """Norm of the difference over the norm, of all gradients together."""
    difference = sum(float((a - b).double().square().sum()) for a, b in zip(found, exact, strict=True))
    return (difference / sum(float(b.double().square().sum()) for b in exact)) ** 0.5


if __name__ == "__main__":
    main()
