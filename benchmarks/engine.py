"""One command, one table: the native engine against torch, torch.compile, ONNX Runtime and OpenVINO.

    python benchmarks/engine.py                                   every section, about ten minutes
    python benchmarks/engine.py --quick                           a minute, rough
    python benchmarks/engine.py --sections network --bits 1 2 4 8
    python benchmarks/engine.py --json results/engine/engine.json

All runtimes take turns in one process; spikes and logits are compared with the numpy reference in the same run, and the
exit status is 1 if any bit differs. How to read the table: README.md beside this file.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch create their pools; torch.set_num_threads still raises it

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import engine_layers as layers
import engine_networks as networks
import engine_tables as tables
import torch
from engine_groups import Settings

from bitspike import measure
from bitspike.measure import rivals

SECTIONS = {
    "layers": layers.layers,
    "network": networks.networks,
    "levels": networks.levels,
    "sparsity": networks.sparsity,
    "attention": layers.attentions,
    "rates": layers.rates,
    "threads": networks.threads,
    "memory": networks.memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--bits", nargs="+", type=int, choices=range(1, 9), default=[1, 4], metavar="BITS")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16], metavar="N")
    parser.add_argument("--against", nargs="+", choices=rivals.RIVALS, help="default: all that can run here")
    parser.add_argument("--seconds", type=float, default=4.0, help="time of each group of interleaved calls")
    parser.add_argument("--quick", action="store_true", help="one batch size, short groups, no torch.compile")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    settings = Settings(
        bits=tuple(options.bits),
        batches=(1,) if options.quick else tuple(options.batch),
        against=set(options.against or default_rivals(options.quick)),
        seconds=min(options.seconds, 0.5) if options.quick else options.seconds,
        quick=options.quick,
    )
    result: dict[str, Any] = {
        "command": "python benchmarks/engine.py " + " ".join(sys.argv[1:]),
        "environment": measure.environment() | {"rivals": sorted(settings.against)},
        "settings": {"bits": settings.bits, "batches": settings.batches, "seconds": settings.seconds},
        "load_average": {"before": os.getloadavg()},
    }
    began = time.perf_counter()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for name in options.sections:
            started = time.perf_counter()
            result[name] = SECTIONS[name](settings)
            result["load_average"]["after"] = os.getloadavg()
            result["seconds"] = round(time.perf_counter() - began, 1)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            if options.json is not None:  # after each section, so that what is done is kept whatever comes
                write(result, options.json)
    result = json.loads(json.dumps(result))  # what a reader of the file will see
    print(tables.page(result))
    return 0 if tables.differing(result)[0] == 0 else 1


def write(result: dict[str, Any], path: Path) -> None:
    """The result as JSON, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, path)


def default_rivals(quick: bool) -> set[str]:
    """All that can run here."""
    found = set(rivals.available_rivals())
    if not quick:
        try:
            rivals.check_rivals(["compile"])
            found.add("compile")
        except rivals.BitspikeError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
