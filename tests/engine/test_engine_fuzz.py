"""A small budget of every fuzz driver and thread test, under sanitizers; ``make fuzz`` runs a large one."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mutate import body, replace
from native_build import ROOT, build, compiler
from tests.engine import fuzz, fuzz_graphs

from bitspike.deploy import artifact, ir, reference

LOADER_CASES = 20_000
DIFFERENTIAL_CASES = 300
FIRST_SEED = 10**15  # far from those of long runs
THREAD_SECONDS = 4


@pytest.fixture(scope="module")
def address() -> Path:
    return build("fuzz", "-DBITSPIKE_FUZZ=ON")


@pytest.fixture(scope="module")
def thread() -> Path:
    options = ("-DBITSPIKE_FUZZ=ON", "-DBITSPIKE_SANITIZE=thread")
    return build("fuzz-thread", *options, targets=("check_threads", "check_pool"))


def test_damaged_files_are_refused_or_run(address: Path) -> None:
    figures = fuzz.fuzz_loader(address, LOADER_CASES, FIRST_SEED)
    raw, repaired = figures["raw"], figures["repaired"]
    assert sum(raw.values()) == sum(repaired.values()) == LOADER_CASES / 2
    assert raw["refused"] > 0.99 * LOADER_CASES / 2  # a checksum stands before everything
    assert min(repaired["refused"], repaired["run"]) > 0.1 * LOADER_CASES / 2


def test_random_networks_equal_the_reference(address: Path) -> None:
    figures = fuzz.fuzz_differential(address, DIFFERENTIAL_CASES, FIRST_SEED)
    assert figures["cases"] == DIFFERENTIAL_CASES and figures["differences"] == 0
    assert figures["runs"] >= 2 * figures["networks"] >= 2 * DIFFERENTIAL_CASES
    features = {f"with {kind.__name__}" for kind in artifact.OPERATIONS}
    features |= {f"with {bits}-bit weights" for bits in range(1, 9)} | {f"T {t}" for t in range(1, 10)}
    assert features | {f"batch {n}" for n in (1, 2, 3)} <= figures["covered"].keys()


@pytest.mark.parametrize("kernels", ["attention", "events", "tables"])
def test_kernels_alone_equal_plain_loops(address: Path, kernels: str) -> None:
    done = subprocess.run([address / f"{kernels}_test", "40"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_threads_do_not_race(thread: Path) -> None:
    figures = fuzz.fuzz_threads(thread, THREAD_SECONDS)
    assert figures["differences"] == 0 and figures["runs"] > 50 and figures["loads"] > 5


def test_pool_survives_a_fork(tmp_path: Path) -> None:
    """Sanitizers do not follow the threads of a forked child, so this one is built without."""
    sources = [ROOT / "native" / "tests" / "check_pool.cpp", ROOT / "native" / "pool.cpp"]
    command = [compiler("c++", "g++", "clang++"), "-std=c++17", "-O1", "-pthread", "-I", ROOT / "native", *sources]
    subprocess.run([*command, "-o", tmp_path / "check_pool"], check=True)
    done = subprocess.run([tmp_path / "check_pool"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "pool: ok\n"), done.stderr


def test_a_difference_is_found_and_kept(address: Path, tmp_path: Path) -> None:
    """One wrong bit in the expected logits of one case, one in the spikes of another."""
    stream = b""
    for seed, word in ((3, -2), (4, -1), (5, None)):
        data = fuzz_graphs.make_case(seed).data
        if word is not None:
            vectors = bytearray(body(data, 6))
            vectors[4 * word] ^= 1
            data = replace(data, 6, bytes(vectors))
        stream += struct.pack("<QI", seed, len(data)) + data
    command = [address / "fuzz_differential", "--save", tmp_path, "--progress", tmp_path / "case.txt"]
    done = subprocess.run(command, input=stream, capture_output=True, check=False)
    assert done.returncode == 1 and b'"cases": 3' in done.stdout
    assert {p.name for p in tmp_path.glob("*.bspk")} == {"3.bspk", "4.bspk"}
    assert (tmp_path / "case.txt").read_text().strip() == "5"
    messages = done.stderr.decode()
    assert "DIFFERENCE seed 3: level portable: TESTVEC: the logits" in messages
    assert "DIFFERENCE seed 4: level portable: TESTVEC: the spikes" in messages and "seed 5" not in messages


def test_cases_are_reproducible_and_varied() -> None:
    assert fuzz_graphs.make_case(7).data == fuzz_graphs.make_case(7).data
    cases = [fuzz_graphs.make_case(seed) for seed in range(60)]
    rates, sides, channels, sources = [], set(), set(), set()
    for case in cases:
        for spikes in reference.run(case.graph, case.samples).spikes.values():
            rates.append(spikes.mean())
            sides.add(spikes.shape[-1])
            channels.add(spikes.shape[2])
        sources |= {len(n.sources) for n in case.graph.nodes if isinstance(n, ir.Lif)}
    assert (np.histogram(rates, [0, 1e-9, 0.1, 0.3, 0.7, 0.999, 1.1])[0] > 5).all()
    assert sides >= {1, 2, 3, 8, 9} and {c % 8 for c in channels} == set(range(8)) and max(channels) > 64
    assert sources == {1, 2}
