"""Neurons on a GPU: achieved bandwidth of the kernels, and their rivals on the same input, in one command.

python benchmarks/gpu_neurons.py                      every length, size and dtype, about half an hour
python benchmarks/gpu_neurons.py --quick              a corner of it, a few minutes

Times are medians of CUDA events, each sample after the level-2 cache was overwritten. "share" is the traffic that an ideal
kernel needs over the time taken, as a share of the bandwidth of a device copy in the same run. Exit status 2 without a GPU
or triton, 1 where a spike of a kernel differs from the reference (float32).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from gpu_runners import NEURONS, RUNNERS, Case

STEPS = (4, 16, 64, 256)
FEATURES = tuple(2**power for power in range(18, 23))
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHARE, SPEEDUP = 0.8, 1.3  # what the kernels are held to: of the copy bandwidth, over spikingjelly
COPY_BYTES, CACHE_BYTES = 2**30, 2**28
Clock = Callable[[Callable[[], Any]], float]  # median seconds of a call


def event_clock(samples: int) -> Clock:
    """Seconds between CUDA events around a call, the cache overwritten before every sample."""
    flush = torch.empty(CACHE_BYTES, dtype=torch.uint8, device="cuda")

    def clock(call: Callable[[], Any]) -> float:
        for _ in range(3):  # compiles, and fills the allocator
            call()
        times = []
        for _ in range(samples):
            flush.zero_()
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop) / 1e3)
        return statistics.median(times)

    return clock


def copy_bandwidth(clock: Clock, device: torch.device, size: int = COPY_BYTES) -> float:
    """Bytes per second of a device copy, read and written."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / clock(lambda: target.copy_(source))


def time_phases(case: Case, runner: str, clock: Clock, device: torch.device) -> dict[str, float]:
    """Median seconds of "inference", "forward" and "backward"; raises RuntimeError where ``runner`` cannot."""
    module, call = RUNNERS[runner](case, device)
    current = case.current(device)
    inputs = [current, *module.parameters()]
    seconds = {}
    with torch.no_grad():
        seconds["inference"] = clock(lambda: call(current))
    seconds["forward"] = clock(lambda: call(current))
    spikes = call(current)
    upstream = torch.randn_like(spikes)
    seconds["backward"] = clock(lambda: torch.autograd.grad(spikes, inputs, upstream, retain_graph=True))
    return seconds


def differing_spikes(case: Case, device: torch.device) -> int:
    """Spikes of the kernel that are not the reference's."""
    current = case.current(device).detach()
    kernel, reference = (RUNNERS[name](case, device)[1] for name in ("kernel", "eager"))
    with torch.no_grad():
        return int((kernel(current) != reference(current)).sum())


def measure(case: Case, clock: Clock, device: torch.device, bandwidth: float) -> dict[str, Any]:
    """One row of the result: times of the kernel and of every rival, or the reason why there are none."""
    row: dict[str, Any] = {
        "neuron": case.neuron,
        "steps": case.steps,
        "features": case.features,
        "dtype": str(case.dtype).removeprefix("torch."),
        "seconds": {},
        "left_out": {},
    }
    for runner in RUNNERS:
        try:
            row["seconds"][runner] = time_phases(case, runner, clock, device)
        except (RuntimeError, ImportError, TypeError, ValueError) as error:  # out of memory among them
            if runner == "kernel":
                raise
            row["left_out"][runner] = str(error).split("\n")[0]
        if device.type == "cuda":
            torch.cuda.empty_cache()
    ours, theirs = (row["seconds"].get(name) for name in ("kernel", "spikingjelly"))
    if ours:
        row["share"] = {phase: case.traffic(phase) / seconds / bandwidth for phase, seconds in ours.items()}
    if ours and theirs:
        row["speedup"] = _training(theirs) / _training(ours)
    if ours and case.dtype == torch.float32:
        row["differing_spikes"] = differing_spikes(case, device)
    return row


def _training(seconds: dict[str, float]) -> float:
    return seconds["forward"] + seconds["backward"]


def verdicts(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The worst figures against what the kernels are held to."""
    rows = list(rows)
    shares = [min(row["share"].values()) for row in rows if "share" in row]
    speedups = [row["speedup"] for row in rows if "speedup" in row]
    return {
        "share": {"goal": SHARE, "worst": min(shares, default=None)},
        "speedup_over_spikingjelly": {"goal": SPEEDUP, "worst": min(speedups, default=None)},
        "differing_spikes": sum(row.get("differing_spikes", 0) for row in rows),
    }


def line(row: dict[str, Any]) -> str:
    """A row of the table: microseconds of forward and backward, shares, speed over spikingjelly."""
    cells = [f"{row['neuron']:<12}{row['dtype']:<10}{row['steps']:>4}{row['features']:>9}"]
    for runner in RUNNERS:
        seconds = row["seconds"].get(runner)
        cells.append(f"{_training(seconds) * 1e6:>11.1f}" if seconds else f"{'-':>11}")
    share = row.get("share")
    cells.append(f"{share['forward']:>7.0%}{share['backward']:>7.0%}" if share else f"{'-':>7}{'-':>7}")
    cells.append(f"{row['speedup']:>7.2f}" if "speedup" in row else f"{'-':>7}")
    return "".join(cells)


def header() -> str:
    runners = "".join(f"{name:>11}" if len(name) < 11 else f"{'spikingj.':>11}" for name in RUNNERS)
    return f"{'neuron':<12}{'dtype':<10}{'T':>4}{'features':>9}{runners}{'fwd':>7}{'bwd':>7}{'speed':>7}"


def machine() -> dict[str, Any]:
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    for package in ("bitspike", "torch", "triton", "spikingjelly"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="T = 4 and 16, 2^18 and 2^20 features, float32")
    parser.add_argument("--neurons", nargs="+", choices=NEURONS, default=list(NEURONS))
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--json", type=Path, default=Path("results/neurons/gpu.json"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU that torch can use is here; these figures need one", file=sys.stderr)
        return 2
    if find_spec("triton") is None:
        print("triton is not installed: pip install 'bitspike[gpu]'", file=sys.stderr)
        return 2
    device, clock = torch.device("cuda"), event_clock(options.samples)
    bandwidth = copy_bandwidth(clock, device)
    print(f"device copy: {bandwidth / 1e9:.0f} GB/s; microseconds of forward and backward\n\n{header()}")
    sizes = ((4, 16), (2**18, 2**20), ("float32",)) if options.quick else (STEPS, FEATURES, DTYPES)
    rows = []
    for neuron, dtype, steps, features in itertools.product(options.neurons, sizes[2], *sizes[:2]):
        rows.append(measure(Case(neuron, steps, features, DTYPES[dtype]), clock, device, bandwidth))
        print(line(rows[-1]), flush=True)
    result = {
        "command": " ".join(["python benchmarks/gpu_neurons.py", *sys.argv[1:]]),
        "environment": machine(),
        "copy_bytes_per_second": bandwidth,
        "verdicts": verdicts(rows),
        "rows": rows,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["verdicts"], indent=1))
    return 1 if result["verdicts"]["differing_spikes"] else 0


if __name__ == "__main__":
    sys.exit(main())
