"""A training step of a CIFAR-size spiking network, library by library: time and peak memory.

python benchmarks/training.py [--rounds 7] [--threads 2] [--json results/neurons/training.json]

Every case runs in a process of its own. Its peak is the resident memory after two steps above that before the first, after
all imports. Then the processes take steps in turn, round by round; times are medians. The second table is a long sequence,
with and without time checkpoints. Libraries that are not installed are named as skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """``chunk``: steps of a time checkpoint; ``keep``: the allocator keeps what is freed; ``winograd``: convolutions."""

    name: str
    network: str
    batch: int
    steps: int
    compiled: bool = False
    chunk: int | None = None
    keep: bool = False
    winograd: bool = False


def cases(batch: int, steps: int, long: int) -> dict[str, list[Case]]:
    libraries = ("plain torch", "spikingjelly", "snntorch", "norse", "sinabs", "bitspike")
    short = [Case(name, name, batch, steps) for name in libraries]
    short.append(Case("plain torch, compiled", "plain torch", batch, steps, compiled=True))
    short += [Case(f"{n}, freed memory kept", n, batch, steps, keep=True) for n in ("plain torch", "bitspike")]
    short.append(Case("bitspike, Winograd", "bitspike", batch, steps, winograd=True))
    short.append(Case("bitspike, Winograd, freed memory kept", "bitspike", batch, steps, keep=True, winograd=True))
    few = max(1, batch * steps // long)
    rows = [Case("plain torch", "plain torch", few, long), Case("bitspike", "bitspike", few, long)]
    rows += [Case(f"bitspike, checkpointed({chunk})", "bitspike", few, long, chunk=chunk) for chunk in (4, 8)]
    return {"libraries": short, "long": rows}


class Worker:
    """A process that takes one training step when asked."""

    def __init__(self, case: Case, threads: int) -> None:
        self.case = case
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--worker", json.dumps(asdict(case)), "--threads", str(threads)]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.times: list[float] = []
        self.ready = self._read()

    def _read(self) -> dict[str, Any]:
        """The next answer; other lines are a library's own."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        assert self.process.stderr is not None
        return {"failed": (self.process.stderr.read().strip().splitlines() or ["no message"])[-1]}

    def step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        self.times.append(self._read()["seconds"])

    def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def work(case: Case, threads: int) -> None:
    """The worker's side: build, take two steps, report the peak, then a step for every line read."""
    import torch
    from torch.nn import functional as F
    from training_networks import NETWORKS

    if case.keep:
        from bitspike.learn import keep_freed_memory

        if not keep_freed_memory():
            sys.exit("this C library keeps no freed memory")
    convolutions: Callable[[], AbstractContextManager[None]] = nullcontext
    if case.winograd:
        from bitspike.ops import winograd_convolutions as convolutions
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = NETWORKS[case.network](case.steps).train()
    if case.compiled:
        network = torch.compile(network, dynamic=False)
    x, y = torch.rand(case.batch, 3, 32, 32), torch.randint(0, 10, (case.batch,))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def loss_of(logits: torch.Tensor, *_: Any) -> torch.Tensor:
        return F.cross_entropy(logits.mean(0) if logits.dim() == 3 else logits, y)

    propagate = None
    if case.chunk is not None:
        from bitspike.learn import checkpointed  # imports are not the step's memory

        propagate = checkpointed(case.chunk)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with convolutions():
            if propagate is None:
                loss_of(network(x)).backward()
            else:
                propagate(network, x, y, loss_of, torch.Tensor.backward)
        optimizer.step()

    before = resident("VmRSS")
    for _ in range(2):
        step()
    print(json.dumps({"peak_bytes": None if case.compiled else resident("VmHWM") - before}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def resident(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def measure(group: list[Case], rounds: int, threads: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows, and the cases that could not run with the reason."""
    workers, failed = [], {}
    for case in group:
        worker = Worker(case, threads)
        print(f"{case.name}: {worker.ready}", file=sys.stderr, flush=True)
        if "failed" in worker.ready:
            failed[case.name] = worker.ready["failed"]
            worker.stop()
        else:
            workers.append(worker)
    for first in range(rounds):
        for worker in workers[first % len(workers) :] + workers[: first % len(workers)]:
            worker.step()
    rows = []
    for worker in workers:
        worker.stop()
        seconds = statistics.median(worker.times)
        base = next(w for w in workers if w.case.name == "plain torch")
        ratios = [own / plain for own, plain in zip(worker.times, base.times, strict=True)]
        row = {"name": worker.case.name, "batch": worker.case.batch, "steps": worker.case.steps, "median_s": seconds}
        rows.append(row | {"ratio": statistics.median(ratios), "peak_bytes": worker.ready["peak_bytes"]})
    return rows, failed


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("torch", "spikingjelly", "snntorch", "norse", "sinabs"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--long", type=int, default=32)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Case(**json.loads(options.worker)), options.threads)
        return
    began = time.perf_counter()
    groups = cases(options.batch, options.steps, options.long)
    result: dict[str, Any] = {
        "command": "python benchmarks/training.py",
        "machine": f"{platform.machine()}, {options.threads} threads",
        "versions": versions(),
        "rounds": options.rounds,
        "skipped": {},
    }
    for name, group in groups.items():
        chosen = [case for case in group if not (case.compiled and options.no_compile)]
        result[name], failed = measure(chosen, options.rounds, options.threads)
        result["skipped"] |= failed
    result["seconds"] = time.perf_counter() - began
    import training_tables

    for name in groups:
        print(training_tables.table(result, name), end="\n\n")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
