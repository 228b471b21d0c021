"""The emitted C on an emulated Cortex-M, by the example that users run: real digits, every logit and spike."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import c99_graphs as cases
import numpy as np
import pytest
from c99_host import STRICT

from bitspike.deploy import artifact, c99, ir

TOOLS = ("arm-none-eabi-gcc", "qemu-system-arm", "make")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
EXAMPLE = Path(__file__).parents[2] / "examples" / "cortex_m"
IMAGES = 100


def run_example(folder: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", EXAMPLE, "run", f"OUT={folder}", f"PYTHON={sys.executable}", *variables]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def digits_network(rng: np.random.Generator) -> ir.Graph:
    """8x8 digits through frames of both resets, groups, counts, attention, a shortcut and 1, 3, 4 and 8 bits."""
    weight = cases.random_weight
    nodes: list[ir.Node] = [ir.Input(1, 8, 8, 1, (73,)), ir.Conv(0, weight(rng, (24, 1, 3, 3), 8), 8, padding=1)]
    nodes += [cases.lif(rng, (1,), 24, 9000), ir.SumPool(2, 2, 2), ir.OrPool(2, 2, 2)]
    nodes += [ir.Conv(3, weight(rng, (24, 24, 3, 3), 3), 3, padding=1), cases.lif(rng, (5, 4), 24, 60, soft=True)]
    nodes += [ir.Conv(4, weight(rng, (24, 12, 3, 3), 1), 1, padding=1, groups=2), cases.lif(rng, (7,), 24, 9)]
    nodes += [ir.Attention(4, 6, 8, 3), cases.lif(rng, (9,), 24, 16, bits=9), ir.Add(6, 10)]
    nodes += [ir.Linear(11, weight(rng, (19, 24 * 16), 4), 4), cases.lif(rng, (12,), 19, 90)]
    nodes += [cases.readout(rng, 13, 19, 6)]
    return ir.Graph(5, nodes, meta={"data": "digits"})


@pytest.mark.parametrize(("network", "board"), [("example", "mps2-an386"), ("every node", "mps2-an500")])
def test_real_digits_without_a_differing_bit(network: str, board: str, tmp_path: Path) -> None:
    model = tmp_path / "model.bspk"
    if network == "every node":
        artifact.save(digits_network(np.random.default_rng(0)), model)
    given = f"MODEL={model if model.exists() else ''}"
    figures_file = tmp_path / "figures.json"
    done = run_example(tmp_path / "out", given, f"BOARD={board}", f"IMAGES={IMAGES}", f"JSON={figures_file}")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(figures_file.read_text())
    assert figures["images"] == IMAGES and figures["logits"] == IMAGES * (10 if network == "example" else 7)
    assert figures["differing_logits"] == figures["differing_spike_checksums"] == 0
    assert 10_000 < figures["instructions_least"] <= figures["instructions_mean"] <= figures["instructions_most"]
    _assert_that_checksums_vary(tmp_path / "out" / "expected.txt")
    _assert_that_sizes_are_as_announced(done.stdout, figures)
    _assert_that_a_change_is_noticed(tmp_path / "out")


def _assert_that_checksums_vary(expected: Path) -> None:
    """Otherwise the comparison would say little."""
    assert len({line.split()[-1] for line in expected.read_text().splitlines()}) > IMAGES // 2


def _assert_that_sizes_are_as_announced(printed: str, figures: dict[str, int]) -> None:
    line = next(line for line in printed.splitlines() if line.startswith("net: flash"))
    flash, ram = int(line.split()[2]), int(line.split("; RAM ")[1].split()[0])
    assert figures["ram"] == ram
    assert flash < figures["flash"] < flash + 16_000  # code comes on top of the constant tables


def _assert_that_a_change_is_noticed(out: Path) -> None:
    lines = (out / "expected.txt").read_text().splitlines()
    words = lines[7].split()
    for position in (2, -1):
        changed = [*words]
        changed[position] = str(int(words[position]) ^ 1)
        (out / "expected.txt").write_text("\n".join([*lines[:7], " ".join(changed), *lines[8:]]) + "\n")
        check = subprocess.run([sys.executable, EXAMPLE / "check.py", out], capture_output=True, timeout=60)
        assert check.returncode == 1


@pytest.mark.parametrize("cpu", ["cortex-m0", "cortex-m3", "cortex-m7", "cortex-m33"])
def test_every_core_links_without_a_library(cpu: str, tmp_path: Path) -> None:
    """Constant tables are read-only data; nothing is left undefined, not even compiler support routines."""
    graph = digits_network(np.random.default_rng(1))
    for streaming in (False, True):
        need = c99.export(graph, tmp_path, name="net", streaming=streaming)
        command = ["arm-none-eabi-gcc", f"-mcpu={cpu}", "-mthumb", *STRICT, "-O2", "-c", "net.c", "-o", "net.o"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
        undefined = subprocess.run(
            ["arm-none-eabi-nm", "-u", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert undefined.stdout.split() == []
        sections = subprocess.run(
            ["arm-none-eabi-size", "-A", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        sizes = {name: int(size) for name, size, *_ in (line.split() for line in sections.stdout.splitlines()[2:-2])}
        assert sizes.get(".data", 0) == 0
        assert 0 <= sizes[".bss"] - need.ram < 16
        assert 0 <= sizes[".rodata"] - need.flash < 64  # alignment between tables
