"""Long fuzzing of the engine under sanitizers, in rounds that add up in one file of figures.

    python -m tests.engine.fuzz [--loader 10000000] [--differential 100000] [--seconds 60] [--seed 0]
                                [--figures results/engine/fuzz.json] [--address build/fuzz] [--thread build/fuzz-thread]

Interrupted, it goes on where it stopped; figures of another engine or another seed are begun anew. The folders hold builds
with BITSPIKE_FUZZ=ON, the second one with BITSPIKE_SANITIZE=thread. Exit status 1 when anything was found; differing
cases are kept beside the build.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bitspike import engine

from . import corpus, fuzz_graphs

ROOT = Path(__file__).parents[2]
LOADER_ROUND, DIFFERENTIAL_ROUND = 250_000, 1000
THREAD_NETWORKS = 40

Figures = dict[str, Any]


class Found(Exception):
    """A fuzz driver failed; the message says how to repeat it."""


def fuzz_loader(folder: Path, cases: int, seed: int) -> Figures:
    """Damaged files: one round of the loader's driver."""
    files = folder / "corpus"
    if not files.is_dir() or files.stat().st_mtime < max(p.stat().st_mtime for p in Path(__file__).parent.glob("*.py")):
        shutil.rmtree(files, ignore_errors=True)
        corpus.write(files)
    return _driver([folder / "fuzz_loader", files, "--cases", str(cases), "--seed", str(seed)])


def fuzz_differential(folder: Path, cases: int, first: int) -> Figures:
    """Networks against the reference: one round, seeds ``first`` to ``first + cases - 1``."""
    saved, progress = folder / "differing", folder / "case.txt"
    saved.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.engine.fuzz_graphs", "--first", str(first), "--count", str(cases)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as generator:
        try:
            figures = _driver(
                [folder / "fuzz_differential", "--save", saved, "--progress", progress], stdin=generator.stdout
            )
        except Found as found:
            generator.kill()
            repeat = "python -m tests.engine.fuzz_graphs --first SEED --file PATH"
            raise Found(f"{found}\nlast case: seed {progress.read_text().strip()}; as a file: {repeat}") from None
        assert generator.stderr is not None
        log = generator.stderr.read().decode()
    if generator.returncode or figures["cases"] != cases:
        raise Found(f"the generator stopped after {figures['cases']} of {cases} cases\n{log}")
    return figures | {"covered": json.loads(log.splitlines()[-1])}


def fuzz_threads(folder: Path, seconds: float) -> Figures:
    """Loads and runs on several threads at once, and the thread pool itself."""
    files = folder / "networks"
    if not files.is_dir():
        files.mkdir()
        for seed in range(THREAD_NETWORKS):
            (files / f"{seed}.bspk").write_bytes(fuzz_graphs.make_case(seed).data)
    pool = subprocess.run([folder / "check_pool"], capture_output=True, text=True, check=False)
    if pool.returncode:
        raise Found(f"check_pool\n{pool.stderr}")
    return _driver([folder / "check_threads", files, str(seconds)])


def _driver(command: list[Any], stdin: Any = None) -> Figures:
    start = time.monotonic()
    done = subprocess.run(list(map(str, command)), stdin=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Found(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1]) | {"seconds": round(time.monotonic() - start, 1)}


def add(total: Figures, part: Figures) -> Figures:
    """Sums of all numbers, nested ones too."""
    for key, value in part.items():
        total[key] = add(total.get(key, {}), value) if isinstance(value, dict) else round(total.get(key, 0) + value, 1)
    return total


def about(options: argparse.Namespace) -> Figures:
    """What the figures are figures of."""
    native = ROOT / "native"
    sources = sorted(p for p in native.iterdir() if p.suffix in (".cpp", ".hpp", ".inl") and p.name != "bindings.cpp")
    cache = (options.address / "CMakeCache.txt").read_text()
    compiler = next(line.split("=", 1)[1] for line in cache.splitlines() if line.startswith("CMAKE_CXX_COMPILER:"))
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return {
        "command": "make fuzz",
        "seed": options.seed,
        "engine": hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:16],
        "levels": engine.levels(),
        "compiler": version,
        "sanitizers": {"loader, differential": "address, undefined", "threads": "thread"},
        "cpus": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loader", type=int, default=10_000_000, metavar="CASES", help="damaged files, in all")
    parser.add_argument("--differential", type=int, default=100_000, metavar="CASES", help="random networks, in all")
    parser.add_argument("--seconds", type=float, default=60, help="how long threads run under ThreadSanitizer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figures", type=Path, default=ROOT / "results" / "engine" / "fuzz.json")
    parser.add_argument("--address", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--thread", type=Path, default=ROOT / "build" / "fuzz-thread")
    options = parser.parse_args()
    figures = about(options)
    if options.figures.exists():
        before = json.loads(options.figures.read_text())
        if all(before.get(key) == figures[key] for key in ("seed", "engine", "levels", "compiler")):
            figures = before

    def record(name: str, part: Figures) -> None:
        add(figures.setdefault(name, {}), part)
        options.figures.parent.mkdir(parents=True, exist_ok=True)
        options.figures.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"{name}: {figures[name].get('cases', figures[name].get('runs'))}", flush=True)

    try:
        while figures.get("threads", {}).get("seconds", 0) < options.seconds:
            record("threads", fuzz_threads(options.thread, min(options.seconds, 20)))
        while (done := figures.get("loader", {}).get("cases", 0)) < options.loader:
            count = min(LOADER_ROUND, options.loader - done)
            record("loader", fuzz_loader(options.address, count, options.seed * 10**9 + done))
        while (done := figures.get("differential", {}).get("cases", 0)) < options.differential:
            count = min(DIFFERENTIAL_ROUND, options.differential - done)
            record("differential", fuzz_differential(options.address, count, options.seed * 10**9 + done))
    except Found as found:
        print(f"FOUND {found}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
