"""What the engine takes without Python: bytes of the library and runner, peak memory of the runner on whole networks.

    python benchmarks/footprint.py [--build build/shared] [--bits 1 4] [--json results/engine/footprint.json]

Builds libbitspike and bitspike-run, strips copies of them, and runs the 8-layer CIFAR-size network of networks.py in fresh
processes; the runner's logits are compared with the numpy reference. Peak memory is the process's largest resident set
(VmHWM), C++ runtime, file, tables, activations and input included.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from networks import SHAPES, network, smooth_images

from bitspike import measure
from bitspike.deploy import artifact, reference

ROOT = Path(__file__).parents[1]
SAMPLES = 4
THREADS = (1, 2)
LEVELS = ("portable", "avx2", "avx512")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "shared", help="folder of the native build")
    parser.add_argument("--network", default="vgg8", choices=list(SHAPES))
    parser.add_argument("--bits", nargs="+", type=int, choices=range(1, 9), default=[1, 4], metavar="BITS")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    build(options.build)
    figures: dict[str, Any] = {"command": f"python {' '.join(['benchmarks/footprint.py', *sys.argv[1:]])}"}
    figures["environment"] = measure.environment()
    figures["files"] = sizes(options.build)
    for levels in LEVELS:
        variant = options.build.with_name(f"{options.build.name}-{levels.replace(';', '-')}")
        build(variant, f"-DBITSPIKE_LEVELS={levels}")
        figures["files"][f"libbitspike.so with {levels} only"] = sizes(variant)["libbitspike.so"]
    for name, file in figures["files"].items():
        print(f"{name:34} {file['stripped_bytes']:8} bytes stripped")
    figures["networks"] = []
    for bits in options.bits:
        row = {"network": options.network, "bits": bits} | run(options.build / "bitspike-run", options.network, bits)
        figures["networks"].append(row)
        peaks = ", ".join(f"{p['peak_kib']} KiB on {p['threads']} threads" for p in row["processes"])
        print(f"{options.network} {bits} bits: file {row['artifact_bytes']} bytes, peak {peaks}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(p["logits_equal"] for row in figures["networks"] for p in row["processes"]) else 1


def build(folder: Path, *extra: str) -> None:
    """Configure and build the library and the runner."""
    command = ["cmake", "-S", ROOT, "-B", folder, "-DBITSPIKE_SHARED=ON", "-DBITSPIKE_PYTHON=OFF", *extra]
    for step in (command, ["cmake", "--build", folder]):
        subprocess.run(step, check=True, stdout=subprocess.DEVNULL)


def sizes(folder: Path) -> dict[str, dict[str, int]]:
    """Bytes of each file as built and stripped."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("libbitspike.so", "bitspike-run"):
            stripped = Path(scratch) / name
            subprocess.run(["strip", "-o", stripped, folder / name], check=True)
            found[name] = {"bytes": (folder / name).stat().st_size, "stripped_bytes": stripped.stat().st_size}
    return found


def run(runner: Path, name: str, bits: int) -> dict[str, Any]:
    """Peak memory of fresh processes that run a few samples of the network."""
    graph, samples = network(name, bits), smooth_images(SHAPES[name], SAMPLES, seed=2)
    expected = reference.run(graph, samples).logits
    processes = []
    with tempfile.TemporaryDirectory() as scratch:
        model, inputs = Path(scratch) / "model.bspk", Path(scratch) / "samples.npy"
        size = artifact.save(graph, model)
        np.save(inputs, samples)
        for threads in THREADS:
            command = [runner, model, inputs, "--memory", "--threads", str(threads)]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            logits = [[int(v) for v in row.split()] for row in re.findall(r"logits ([-\d ]+)$", text, re.MULTILINE)]
            planned, peak = map(int, re.findall(r"network (\d+) bytes, peak resident (\d+) KiB", text)[0])
            equal = np.array_equal(logits, expected)
            processes.append({"threads": threads, "network_bytes": planned, "peak_kib": peak, "logits_equal": equal})
    return {"artifact_bytes": size, "time_steps": graph.time_steps, "samples": SAMPLES, "processes": processes}


if __name__ == "__main__":
    sys.exit(main())
