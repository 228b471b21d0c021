"""Builds of the C++ code beside the Python module's, kept under build/ from run to run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def compiler(*names: str) -> str:
    """Path of the environment's or the first of the named compilers; skips the test where there is none."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    return found


def build(folder: str, *options: str, targets: Sequence[str] = ("all",)) -> Path:
    """Configure and build into build/``folder``, or find it up to date; skips the test where tools are missing."""
    cmake = compiler("cmake")
    compiler(os.environ.get("CXX", "c++"), "g++", "clang++")
    path = ROOT / "build" / folder
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as lock:  # two test processes may want the same build
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            [cmake, "-S", ROOT, "-B", path, "-DBITSPIKE_PYTHON=OFF", *options],
            [cmake, "--build", path, "-j2", "--target", *targets],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return path
