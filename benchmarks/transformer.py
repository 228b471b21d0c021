"""Latency of a 1-bit spiking transformer, one sample: the engine beside torch and ONNX Runtime on the same network.

    python benchmarks/transformer.py [--rates 0.1 0.15 0.25] [--seconds 20] [--json results/engine/transformer.json]

The network is that of transformer_network.py: T = 4, 64 tokens, 8 heads. All runtimes take turns on one thread; spikes and
logits are compared with the numpy reference, and the exit status is 1 if any bit differs.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch create their pools

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from engine_groups import Settings, loaded, macs, ours, timed
from networks import smooth_images
from transformer_network import RATE, SHAPE, transformer

from bitspike import measure
from bitspike.deploy import ir
from bitspike.measure import rivals
from bitspike.measure.cases import engine_case, rival_cases
from bitspike.measure.latency import class_agreement

COMPARED = 2  # samples that the reference also runs
RIVALS = ("torch", "ort")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", type=float, default=[RATE], help="firing rates of all neurons")
    parser.add_argument("--bits", type=int, choices=range(1, 9), default=1, help="of the weights")
    parser.add_argument("--against", nargs="*", choices=rivals.RIVALS, default=list(RIVALS))
    parser.add_argument("--seconds", type=float, default=20.0, help="time of each group of interleaved calls")
    parser.add_argument("--profile", action="store_true", help="also time each node")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    result: dict[str, Any] = {"command": "python benchmarks/transformer.py " + " ".join(sys.argv[1:])}
    result["environment"] = measure.environment()
    result["load_average"] = {"before": os.getloadavg()}
    torch.set_num_threads(1)
    with torch.inference_mode():
        result["networks"] = [group(rate, options) for rate in options.rates]
    result["load_average"]["after"] = os.getloadavg()
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row["agreement"]["differing"] == 0 for row in result["networks"]) else 1


def group(rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """The network at one firing rate on every runtime, taking turns."""
    graph = transformer(options.bits, rate)
    samples = smooth_images(SHAPE, COMPARED, seed=2)
    net = loaded(graph, samples)
    settings = Settings((options.bits,), (1,), set(options.against), options.seconds, quick=False)
    name = ours(options.bits)
    with tempfile.TemporaryDirectory() as folder:
        others = rival_cases(graph, samples, Path(folder), batch=1, threads=1, against=options.against)
        own = engine_case(net.network, name, len(net.data))
        calls = {case.key: case.prepare(samples[:1]) for case in (own, *others)}
        times, _ = timed(calls, settings)
        same, _ = class_agreement([*others, own], samples, 1)
        sizes = {case.key: case.file_bytes for case in (own, *others) if case.file_bytes is not None}
    row: dict[str, Any] = {
        "bits": options.bits,
        "rate": rate,
        "macs": macs(graph) + matrix_macs(graph),
        "times": times,
        "ratios": {key: time["median_s"] / times[name]["median_s"] for key, time in times.items() if key != name},
        "file_bytes": sizes,
        "same_answer": same,
        "agreement": net.agreement,
        "memory_bytes": net.network.memory_bytes,
    }
    if options.profile:
        row["nodes_us"] = {
            k: round(1e6 * s, 1) for k, s in net.network.profile(samples[0], repeats=20).items() if s > 1e-6
        }
    show(row)
    return row


def matrix_macs(graph: ir.Graph) -> int:
    """Multiply-accumulates of the products of spike matrices, all steps."""
    shapes = ir.node_shapes(graph)
    count = 0
    for node, (channels, height, width) in zip(graph.nodes, shapes, strict=True):
        if isinstance(node, ir.MatMul):
            rows, h, w = shapes[node.left]
            length = rows // node.heads if node.transpose == "left" else h * w
            count += channels * height * width * length * graph.time_steps
    return count


def show(row: dict[str, Any]) -> None:
    gmacs = row["macs"] / 1e9
    print(
        f"{row['bits']}-bit weights, rate {row['rate']}: {gmacs:.2f} G MAC; {row['agreement']} compared with the reference"
    )
    own = row["times"][ours(row["bits"])]["median_s"]
    for key, time in sorted(row["times"].items(), key=lambda each: each[1]["median_s"]):
        print(
            f"  {key:28} {1e3 * time['median_s']:9.3f} ms  {time['median_s'] / own:6.1f} x  ({time['rounds']} rounds)"
        )
    for key, time_us in sorted(row.get("nodes_us", {}).items(), key=lambda each: -each[1])[:30]:
        print(f"    {key:20} {time_us:9.1f} us")


if __name__ == "__main__":
    sys.exit(main())
