"""Compare what the program printed with what it must print, and report its size and its instructions.

    python check.py OUT [--json FILE]

OUT holds output.txt, expected.txt and size.txt (of arm-none-eabi-size). Exit status 1 if any image differs.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures = compare(options.out)
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if figures["differing_logits"] or figures["differing_spike_checksums"] or not figures["images"] else 0


def compare(out: Path) -> dict[str, int]:
    """The figures by name; bytes, and instructions per inference."""
    printed, expected = _images(out / "output.txt"), _images(out / "expected.txt")
    text, data, bss = (int(field) for field in (out / "size.txt").read_text().splitlines()[1].split()[:3])
    pairs = [(printed.get(i, []), wanted) for i, wanted in expected.items()]
    figures = {
        "images": len(pairs),
        "logits": sum(len(wanted) - 1 for _, wanted in pairs),
        "differing_logits": sum(a != b for p, w in pairs for a, b in _zip(p[:-1], w[:-1])),
        "differing_spike_checksums": sum(p[-1:] != w[-1:] for p, w in pairs),
        "flash": text + data,
        "ram": data + bss,
    }
    return figures | _instructions((out / "output.txt").read_text())


def _zip(printed: list[int], wanted: list[int]) -> list[tuple[int | None, int]]:
    return [(printed[i] if i < len(printed) else None, value) for i, value in enumerate(wanted)]


def _images(path: Path) -> dict[int, list[int]]:
    """Image number -> logits, then spike checksum."""
    lines = re.findall(r"^image (\d+) (.*) spikes (-?\d+)$", path.read_text(), re.MULTILINE)
    return {int(i): [*map(int, logits.split()), int(checksum)] for i, logits, checksum in lines}


def _instructions(output: str) -> dict[str, int]:
    """From timer ticks, of which a loop of a million instructions took so many."""
    million = re.search(r"ticks of 1000000 instructions: (\d+)", output)
    ticks = re.search(r"ticks of one inference: mean (\d+), least (\d+), most (\d+)", output)
    if million is None or ticks is None:
        return {}
    names = ("instructions_mean", "instructions_least", "instructions_most")
    per_tick = round(1_000_000 / int(million.group(1)))  # whole: one emulated nanosecond is one instruction
    return {name: int(value) * per_tick for name, value in zip(names, ticks.groups(), strict=True)}


if __name__ == "__main__":
    raise SystemExit(main())
