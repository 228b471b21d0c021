"""The page of each run in headless Chromium: every bit against the engine, sizes, and time per inference.

    python benchmarks/web.py RUN [RUN ...] [--images 1000] [--rounds 31] [--data-root DIR] [--json FILE]

Needs clang, lld and chromium. RUN is the folder of a finished run. Its page is opened offline; the first test images go
through page and engine, all spikes and logits are compared; then page and engine take turns on the first image, one
thread each, and the medians of all turns are given, in CPU time of the thread (Linux), for the page also in wall time.
"""

from __future__ import annotations

import argparse
import base64
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "deploy"))
from web_chromium import CHROMIUM, Chromium, Page  # noqa: E402
from web_compare import compare  # noqa: E402
from web_table import table  # noqa: E402

from bitspike import data, engine, measure  # noqa: E402
from bitspike.cli.page import write_run_page  # noqa: E402
from bitspike.deploy import web  # noqa: E402

TURN_S = 0.02  # of one batch of inferences; the browser's clock is coarse


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=1000, help="test images to compare, at most")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    missing = web.missing_tools() or (None if CHROMIUM else "chromium is not found on PATH")
    if missing:
        print(missing, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, Chromium(Path(folder) / "profile") as browser:
        results = [bench(run, browser, Path(folder) / "page.html", options) for run in options.run]
        environment = measure.environment() | {"chromium": browser.version(), "clang": clang_version()}
    if options.json is not None:
        command = shlex.join(["python", "benchmarks/web.py", *sys.argv[1:]])
        record = {"command": command, "environment": environment, "results": results}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    print(table(results))
    return 0 if not any(row["differing_spikes"] or row["differing_logits"] for row in results) else 1


def bench(run: Path, browser: Chromium, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one run's page."""
    sizes, origin = write_run_page(run / "model.bspk", target, None, options.data_root)
    network = engine.load(run / "model.bspk")
    choice = json.loads((run / "config.json").read_text())["data"]
    images = data.load(choice["name"], options.data_root, **choice["options"]).test.inputs[: options.images]
    page = browser.open(target)
    compared = compare(page, network, images)
    if page.complaints():
        raise SystemExit(f"{run}: {page.complaints()}")
    return {
        "network": choice["name"],
        "time_steps": network.time_steps,
        "artifact_bytes": network.artifact_bytes,
        **sizes,
        "samples_in_page": origin,
        "requests": len(page.requests()) - 1,
        **compared,
        **take_turns(browser, page, network, images[0], options.rounds),
    }


def take_turns(browser: Chromium, page: Page, network: engine.Network, image: Any, rounds: int) -> dict[str, Any]:
    """Median seconds per inference in the page and in the engine, measured alternately."""
    encoded = base64.b64encode(image.tobytes()).decode()
    page.evaluate(f'globalThis.x = Uint8Array.from(atob("{encoded}"), (c) => c.charCodeAt(0)), 0')
    wall: list[float] = []

    def in_page(repetitions: int) -> float:
        start = cpu_seconds(renderer)
        wall.append(float(page.evaluate(f"bitspike.time(x, {repetitions})")) / 1000 / repetitions)
        return cpu_seconds(renderer) - start

    def in_engine(repetitions: int) -> float:
        start = time.thread_time()
        for _ in range(repetitions):
            network.run(image)
        return time.thread_time() - start

    renderer = busiest(browser.renderers(), lambda: page.evaluate("bitspike.time(x, 200)"))
    repetitions = {turn: enough(turn) for turn in (in_page, in_engine)}
    wall.clear()
    seconds: dict[Any, list[float]] = {turn: [] for turn in repetitions}
    for _ in range(rounds):
        for turn, count in repetitions.items():
            seconds[turn].append(turn(count) / count)
    page_s, engine_s = (statistics.median(values) for values in seconds.values())
    return {
        "rounds": rounds,
        "repetitions": repetitions[in_page],
        "median_s": page_s,
        "minimum_s": min(seconds[in_page]),
        "wall_median_s": statistics.median(wall),
        "engine_level": network.level,
        "engine_median_s": engine_s,
        "ratio": statistics.median(p / e for p, e in zip(*seconds.values(), strict=True)),
    }


def busiest(processes: list[int], work: Callable[[], Any]) -> int:
    """The process whose main thread does ``work``."""
    before = {process: cpu_seconds(process) for process in processes}
    work()
    return max(processes, key=lambda process: cpu_seconds(process) - before[process])


def cpu_seconds(process: int) -> float:
    """CPU time of a process's main thread."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def enough(turn: Any) -> int:
    """Repetitions that fill a turn, after a first one that lets the browser optimize."""
    count = 8
    while True:
        spent = turn(count)
        if spent >= TURN_S:
            return int(count)
        count *= 2


def clang_version() -> str:
    return subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
