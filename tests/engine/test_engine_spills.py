"""Hot loops of the installed engine keep their sums in registers.

Compilers have spilled the sums of these loops to the stack without a word, at a third of the speed. The test
disassembles the extension module, finds the innermost loops that do the multiplying (table lookups, population counts,
16-bit products) and looks for vector registers that go to or come from the stack. Names are not needed: wheels are
stripped.
"""

import importlib.util
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

# Instructions that do the work of a hot loop, and how many of them an unrolled one has at least.
WORK = re.compile(r"^v(perm[it]2b|pshufb|popcnt[bwdq]|pmaddwd|pmaddubsw|pdpbusd|pdpwssd)$")
LEAST_WORK = 4
LONGEST_LOOP = 4096  # bytes
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
VECTOR = re.compile(r"%[xyz]mm")


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str


def parse(text: str) -> list[Instruction]:
    """Instructions of ``objdump --no-show-raw-insn`` output, in order."""
    matches = (INSTRUCTION.match(line) for line in text.splitlines())
    return [Instruction(int(m[1], 16), m[2], m[3]) for m in matches if m]


def hot_loops(code: list[Instruction]) -> list[list[Instruction]]:
    """Innermost loops with at least ``LEAST_WORK`` working instructions."""
    place = {instruction.address: i for i, instruction in enumerate(code)}
    spans = set()
    for end, instruction in enumerate(code):
        target = re.match(r"([0-9a-f]+)\b", instruction.operands)
        if not instruction.name.startswith("j") or not target:
            continue
        begin = place.get(int(target[1], 16))
        if begin is not None and begin <= end and instruction.address - code[begin].address <= LONGEST_LOOP:
            spans.add((begin, end))
    # Sorted by end, the loops inside another one come before it and begin after it.
    ordered = sorted(spans, key=lambda span: (span[1], -span[0]))
    loops = []
    innermost_before = -1  # largest begin of a loop that has ended
    for begin, end in ordered:
        if innermost_before < begin:
            loops.append(code[begin : end + 1])
        innermost_before = max(innermost_before, begin)
    return [loop for loop in loops if sum(bool(WORK.match(i.name)) for i in loop) >= LEAST_WORK]


def spills(loop: list[Instruction], frame_pointer: bool) -> list[Instruction]:
    """Vector instructions of a loop that touch the stack."""
    stack = re.compile(r"\(%(rsp|rbp)" if frame_pointer else r"\(%rsp")
    return [i for i in loop if VECTOR.search(i.operands) and stack.search(i.operands)]


def has_frame_pointer(code: list[Instruction], loop: list[Instruction], reach: int = 2000) -> bool:
    """Whether rbp is the frame's address in the function of ``loop``, and not just another pointer."""
    begin = code.index(loop[0])
    for instruction in reversed(code[max(0, begin - reach) : begin]):
        if instruction.operands.startswith("%rsp,%rbp"):
            return True
        if instruction.name in ("ret", "retq") or instruction.operands.endswith(",%rbp"):
            return False
    return False


def test_finds_a_spill() -> None:
    code = parse(
        """
  10:	mov    %rsp,%rbp
  18:	vmovdqu64 (%rdi),%zmm0
  20:	vpermt2b %zmm1,%zmm2,%zmm3
  28:	vpermt2b %zmm1,%zmm2,%zmm4
  30:	vpermt2b %zmm1,%zmm2,%zmm5
  38:	vpermi2b %zmm1,%zmm2,%zmm6
  40:	vmovdqa64 %zmm6,-0x50(%rbp)
  48:	vmovdqa64 0x40(%rsp),%zmm6
  50:	mov    0x8(%rsp),%rax
  58:	jne    18 <f+0x8>
  60:	jne    10 <f>
  68:	ret
"""
    )
    (loop,) = hot_loops(code)
    assert has_frame_pointer(code, loop)
    assert [i.address for i in spills(loop, frame_pointer=True)] == [0x40, 0x48]
    assert [i.address for i in spills(loop, frame_pointer=False)] == [0x48]


def test_hot_loops_keep_sums_in_registers() -> None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip(f"the engine's vector kernels are for x86-64, this is {platform.machine()}")
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("objdump is not installed (package binutils)")
    found = importlib.util.find_spec("bitspike._native")
    if found is None or found.origin is None or not Path(found.origin).is_file():
        pytest.skip("bitspike._native is not built")
    command = [objdump, "--disassemble", "--no-show-raw-insn", "--section=.text", found.origin]
    code = parse(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    loops = hot_loops(code)
    assert loops, "no hot loop found: does this test still know the engine's instructions?"
    spilled = {
        f"loop at {loop[0].address:#x} ({len(loop)} instructions)": [f"{i.name} {i.operands}" for i in touching]
        for loop in loops
        if (touching := spills(loop, has_frame_pointer(code, loop)))
    }
    assert not spilled
