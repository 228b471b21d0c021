"""One command, one table: a layer of LIF neurons on the CPU, forward and forward + backward, beside other libraries.

    python benchmarks/lif_kernels.py --json results/neurons/lif-cpu.json     five minutes
    python benchmarks/lif_kernels.py --quick                                 half a minute, rough
    python benchmarks/lif_kernels.py --threads 1 --steps 16 --features 262144 --compile-up-to 64

Calls take turns in random order, as in ``engine.py``: CPU time of the process on one thread, wall time on more. "copy" reads
the currents and writes as much: no neuron can be faster. "kept" is what stays in memory for backward, per neuron and step,
the currents included. A rival whose first call takes longer than ``--patience`` is left out of that column. What
torch.compile takes to prepare a shape is shown beside it. Bars are judged at T = 16 and 2^18 neurons.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from engine import write
from lif_rivals import LIBRARIES, plain_loop, rivals
from torch import Tensor

from bitspike import measure
from bitspike.learn import keep_freed_memory
from bitspike.measure.timing import interleaved
from bitspike.neurons import LIF
from bitspike.ops import ATan, reference_only

OURS, COPY, COMPILED = "bitspike", "copy", "torch.compile loop"
BAR = (16, 1 << 18)
SECONDS = 1.5  # of one group of interleaved calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=[4, 16, 64, 256], metavar="T")
    parser.add_argument("--features", nargs="+", type=int, default=[1 << 14, 1 << 18], metavar="N")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--compile-up-to", type=int, default=16, metavar="T", help="longest loop that is compiled")
    parser.add_argument("--patience", type=float, default=0.7, help="seconds that a rival's call may take")
    parser.add_argument("--quick", action="store_true", help="one thread, T 4 and 16")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--keep-freed-memory", action="store_true", help="by the allocator, for all; see learn.Runtime")
    options = parser.parse_args()
    if options.keep_freed_memory and not keep_freed_memory():
        raise SystemExit("--keep-freed-memory needs the C library of GNU")
    if options.quick:
        options.threads, options.steps = [1], [4, 16]
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/lif_kernels.py", *sys.argv[1:]]),
        "environment": measure.environment() | versions(),
        "load_average": {"before": os.getloadavg()},
        "missing": rivals()[1],
        "columns": [],
    }
    began = time.perf_counter()
    for threads in options.threads:
        torch.set_num_threads(threads)
        for steps in options.steps:
            for features in options.features:
                result["columns"].append(column(steps, features, threads, options.compile_up_to, options.patience))
                result["load_average"]["after"] = os.getloadavg()
                result["seconds"] = round(time.perf_counter() - began, 1)
                print(f"T {steps}, {features} neurons, {threads} threads: done", file=sys.stderr, flush=True)
                if options.json is not None:
                    write(result, options.json)
    print(page(result))
    return 0


def column(steps: int, features: int, threads: int, compile_up_to: int, patience: float) -> dict[str, Any]:
    """All calls on one shape."""
    torch.manual_seed(0)
    current = torch.randn(steps, 32, features // 32) + 0.6
    upstream = torch.randn_like(current)
    ours = LIF(0.5, decay_input=True, detach_reset=True, surrogate=ATan())

    def reference(x: Tensor) -> Tensor:
        with reference_only():
            return ours(x)

    calls = {OURS: ours, "bitspike reference": reference, **rivals()[0]}
    found: dict[str, Any] = {"steps": steps, "features": features, "threads": threads}
    if steps <= compile_up_to:
        torch._dynamo.reset()
        calls[COMPILED] = torch.compile(plain_loop, dynamic=False)
        found["compile_s"] = seconds(lambda: prepare(calls[COMPILED], current, upstream))
    with reference_only():
        expected = ours(current)
    found["differing_spikes"] = int((ours(current) != expected).sum())
    forward: dict[str, Callable[[], Any]] = {COPY: current.clone}
    both: dict[str, Callable[[], Any]] = {}
    found["kept_bytes"], found["left_out"] = {}, []
    for name, call in calls.items():
        train = training(call, current, upstream)
        if name not in (OURS, COMPILED) and seconds(train) > patience and seconds(train) > patience:
            found["left_out"].append(name)
            continue
        forward[name], both[name] = inference(call, current), train
        found["kept_bytes"][name] = kept(call, current) / current.numel()
    for key, group in (("forward", forward), ("both", both)):
        timings, _ = interleaved(group, budget_s=SECONDS, threads=threads, min_rounds=3)
        found[key] = {name: dataclasses.asdict(timing) for name, timing in timings.items()}
    return found


def inference(call: Callable[[Tensor], Tensor], current: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            call(current)

    return run


def training(call: Callable[[Tensor], Tensor], current: Tensor, upstream: Tensor) -> Callable[[], None]:
    leaf = current.detach().requires_grad_()

    def run() -> None:
        leaf.grad = None
        call(leaf).backward(upstream)

    return run


def prepare(call: Callable[[Tensor], Tensor], current: Tensor, upstream: Tensor) -> None:
    training(call, current, upstream)()
    inference(call, current)()


def kept(call: Callable[[Tensor], Tensor], current: Tensor) -> int:
    """Bytes of all memory that backward holds on to."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = call(current.detach().requires_grad_())
    del outputs
    return sum(sizes.values())


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def versions() -> dict[str, str]:
    found = {}
    for package in LIBRARIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def page(result: dict[str, Any]) -> str:
    """Tables of milliseconds, with the ratio to ours; kept bytes; bars."""
    lines = []
    for threads in sorted({c["threads"] for c in result["columns"]}):
        columns = [c for c in result["columns"] if c["threads"] == threads]
        clock = "CPU time, 1 thread" if threads == 1 else f"wall time, {threads} threads"
        heads = [f"T {c['steps']}, 2^{c['features'].bit_length() - 1}" for c in columns]
        for key, title in (("forward", "forward"), ("both", "forward + backward")):
            lines += ["", f"{title}, ms (times ours); {clock}", *table(heads, [timed(c[key]) for c in columns])]
        lines += ["", "kept for backward, bytes per neuron and step", *table(heads, [kept_cells(c) for c in columns])]
        prepared = [f"{c['compile_s']:.1f} s" if "compile_s" in c else "-" for c in columns]
        lines += ["", "torch.compile takes " + ", ".join(f"{t} ({h})" for t, h in zip(prepared, heads, strict=True))]
        lines += bars(columns)
    differing = sum(c["differing_spikes"] for c in result["columns"])
    return "\n".join([*lines, "", f"{differing} spikes differ from the reference", ""])


def timed(timings: dict[str, Any]) -> dict[str, str]:
    ours = timings[OURS]["median_s"]
    return {name: f"{1e3 * t['median_s']:.3g} ({t['median_s'] / ours:.2f})" for name, t in timings.items()}


def kept_cells(column: dict[str, Any]) -> dict[str, str]:
    return {name: f"{size:.1f}" for name, size in column["kept_bytes"].items()}


def table(heads: list[str], cells: list[dict[str, str]]) -> list[str]:
    names = list(dict.fromkeys(name for column in cells for name in column))
    rows = [["", *heads], *([name, *(column.get(name, "-") for column in cells)] for name in names)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def bars(columns: list[dict[str, Any]]) -> list[str]:
    """Figures to reach: against the best library, the compiled loop, the copy, and at 16 times as many steps."""
    at = {(c["steps"], c["features"]): c for c in columns}
    if BAR not in at:
        return []

    def median(column: dict[str, Any], key: str, name: str) -> float:
        return float(column[key][name]["median_s"])

    here = at[BAR]
    ours = median(here, "both", OURS)
    best = min(median(here, "both", name) for name in LIBRARIES if name in here["both"])
    lines = ["", bar("best library, forward + backward", best / ours, 8.0, at_least=True)]
    if COMPILED in here["both"]:
        lines.append(
            bar("torch.compile, forward + backward", median(here, "both", COMPILED) / ours, 1.5, at_least=True)
        )
    lines.append(
        bar("forward over copy", median(here, "forward", OURS) / median(here, "forward", COPY), 2.5, at_least=False)
    )
    longer = at.get((256, BAR[1]))
    if longer is not None:
        per_step = median(longer, "both", OURS) / 16 / ours
        lines.append(bar("a step at T 256 over one at T 16", per_step, 2.0, at_least=False))
    return lines


def bar(name: str, value: float, wanted: float, *, at_least: bool) -> str:
    met = value >= wanted if at_least else value <= wanted
    return (
        f"{name}: {value:.2f}, wanted {'at least' if at_least else 'at most'} {wanted:g}: {'met' if met else 'missed'}"
    )


if __name__ == "__main__":
    sys.exit(main())
