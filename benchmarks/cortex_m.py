"""Networks as C99 on an emulated Cortex-M: flash, RAM, instructions per inference, and every logit and spike compared.

    python benchmarks/cortex_m.py MODEL.bspk [MODEL.bspk ...] [--boards mps2-an386] [--images 100] [--json FILE]
    python benchmarks/cortex_m.py --table results/c99/cortex-m.json        # writes the tables of docs/c99.md

Runs examples/cortex_m for each network and board on the first test images of the data set that the network was trained
on, and three kernels for one layer (cortex_m_kernels.c). Exit status 1 if a bit differs.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bitspike import engine
from bitspike.cli.output import print_table
from bitspike.deploy import c99, ir

ROOT = Path(__file__).parent.parent
CORES = {"mps2-an385": "Cortex-M3", "mps2-an386": "Cortex-M4", "mps2-an500": "Cortex-M7"}
COUNTER = (
    "instructions: SysTick under QEMU -icount shift=0, where one instruction takes one emulated nanosecond; instructions "
    "per tick are read off a loop of 1,000,000 instructions in the same run. Instructions are not clock cycles."
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL.bspk")
    parser.add_argument("--boards", nargs="+", choices=list(CORES), default=["mps2-an386"])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="only write the tables of docs/c99.md from this file"
    )
    options = parser.parse_args()
    if options.table:
        write_tables(ROOT / "docs" / "c99.md", json.loads(options.table.read_text()))
        return 0
    rows = [measure(model, board, options.images) for model in options.models for board in options.boards]
    header = ("data", "core", "flash", "of it code", "RAM", "instructions", "images", "differing")
    print_table("C99 on an emulated Cortex-M", header, [_cells(row) for row in rows])
    if options.json:
        command = shlex.join(["python", "benchmarks/cortex_m.py", *sys.argv[1:]])
        result = {"command": command, "environment": environment(), "counter": COUNTER, "rows": rows}
        result["kernels"] = kernels()
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if any(row["differing_logits"] or row["differing_spike_checksums"] for row in rows) else 0


def measure(model: Path, board: str, images: int) -> dict[str, Any]:
    """The figures of one network on one board."""
    network = engine.load(model)
    with tempfile.TemporaryDirectory() as folder:
        figures_file = Path(folder) / "figures.json"
        variables = [f"OUT={folder}/out", f"MODEL={model.resolve()}", f"BOARD={board}", f"IMAGES={images}"]
        command = ["make", "-s", "-C", str(ROOT / "examples" / "cortex_m"), "run", f"PYTHON={sys.executable}"]
        done = subprocess.run(
            [*command, *variables, f"JSON={figures_file}"], capture_output=True, text=True, check=False
        )
        if not figures_file.exists():
            raise SystemExit(f"{model} on {board}: {done.stdout}{done.stderr}")
        figures = json.loads(figures_file.read_text())
        constant = int(done.stdout.split("flash ")[1].split()[0])
    return {
        "data": network.meta.get("data"),
        "seed": network.meta.get("seed"),
        "artifact_bytes": network.artifact_bytes,
        "time_steps": network.time_steps,
        "spikes_per_image": sum(
            network.time_steps * int(node["shape"][0]) * node["shape"][1] * node["shape"][2]
            for node in network.nodes
            if node["op"] == "Lif"
        ),
        "board": board,
        "core": CORES[board],
        "optimization": "-O2",
        "constant_tables": constant,
        **figures,
    }


def kernels() -> list[dict[str, Any]]:
    """Instructions of three kernels for 3x3 x 64 channels to 32 at one pixel, by weight bits and firing rate."""
    rng = np.random.default_rng(0)
    lif = [np.full(64, v, np.int32) for v in (0, 100)]
    nodes: list[ir.Node] = [ir.Input(1, 3, 3, 1, (0,)), ir.Conv(0, np.ones((64, 1, 1, 1), np.int8), 8)]
    nodes.append(ir.Lif((1,), np.ones((1, 64), np.int32), *lif, np.zeros(64, np.uint8), 4, 1))
    nodes.append(ir.Conv(2, rng.choice(np.array([-1, 1], np.int8), (32, 64, 3, 3)), 1))
    shorter = [v[:32] for v in lif]
    nodes.append(ir.Lif((3,), np.ones((1, 32), np.int32), *shorter, np.zeros(32, np.uint8), 4, 1))
    nodes.append(ir.Readout(4, np.ones((1, 32), np.int8), np.zeros(1, np.int32), 1))
    example, source = ROOT / "examples" / "cortex_m", Path(__file__).with_name("cortex_m_kernels.c")
    with tempfile.TemporaryDirectory() as folder:
        c99.export(ir.Graph(1, nodes), folder, name="net")
        flags = ["-mcpu=cortex-m4", "-mthumb", "-O2", "-std=c99", "-ffreestanding", "-nostdlib", f"-I{folder}"]
        files = [str(f) for f in (source, example / "board.c", example / "startup.c")]
        build = ["arm-none-eabi-gcc", *flags, f"-I{example}", *files, "-T", str(example / "board.ld")]
        subprocess.run([*build, "-lgcc", "-o", f"{folder}/kernels.elf"], check=True)
        qemu = ["qemu-system-arm", "-M", "mps2-an386", "-icount", "shift=0", "-display", "none", "-monitor", "none"]
        qemu += ["-serial", "none", "-chardev", "file,id=output,path=output.txt"]
        console = "enable=on,target=native,chardev=output"
        command = [*qemu, "-semihosting-config", console, "-kernel", "kernels.elf"]
        subprocess.run(command, cwd=folder, check=True)
        lines = (Path(folder) / "output.txt").read_text().splitlines()
    names = ("weight_bits", "firing_permille", "weight_rows", "population_count", "byte_rows")
    return [dict(zip(names, map(int, line.split()), strict=True)) for line in lines]


def tables(result: dict[str, Any]) -> dict[str, str]:
    """The recorded figures as the Markdown tables of docs/c99.md, by name."""
    networks = [
        "| network | core | flash | of it code | RAM | instructions per inference | images | differing logits, checksums |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        data, core, *cells = _cells(row)
        networks.append(f"| {data}, T = {row['time_steps']} | {core} | {' | '.join(map(str, cells))} |")
    kernel_lines = [
        "| weight bits | firing | counted weight rows | AND, population count | added byte rows |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in result["kernels"]:
        cells = [f"{row[name]:,}" for name in ("weight_rows", "population_count", "byte_rows")]
        kernel_lines.append(f"| {row['weight_bits']} | {row['firing_permille'] / 10:.0f} % | {' | '.join(cells)} |")
    return {"networks": "\n".join(networks), "kernels": "\n".join(kernel_lines)}


def write_tables(page: Path, result: dict[str, Any]) -> None:
    """Put the tables between their marks on the page."""
    text = page.read_text()
    for name, table in tables(result).items():
        pattern = rf"(<!-- cortex-m:{name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL)
    page.write_text(text)


def environment() -> dict[str, str]:
    """Versions of the tools that made the figures."""
    tools = {"compiler": "arm-none-eabi-gcc", "emulator": "qemu-system-arm"}
    versions = {
        name: subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        for name, tool in tools.items()
    }
    return versions | {"python": platform.python_version(), "machine": platform.machine()}


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["data"],
        row["core"],
        f"{row['flash']:,}",
        f"{row['flash'] - row['constant_tables']:,}",
        f"{row['ram']:,}",
        f"{row['instructions_mean']:,}",
        row["images"],
        row["differing_logits"] + row["differing_spike_checksums"],
    )


if __name__ == "__main__":
    raise SystemExit(main())
