"""Every kernel compiles for GPUs that this machine need not have, through the code that launches it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from kernel_tests import needs_triton

pytestmark = needs_triton
WIDE = {
    "leaky_forward_kernel",
    "leaky_backward_kernel",
    "window_forward_kernel",
    "window_backward_kernel",
    "pack_kernel",
}


def test_kernels_compile_to_wide_accesses_and_unfused_products_once_for_all_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    command = [sys.executable, str(Path(__file__).parent / "compile_kernels.py"), "90"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    launches = json.loads(done.stdout)["launches"]
    counts = Counter(launch["name"] for launch in launches)
    assert counts == {
        "leaky_forward_kernel": 4,
        "leaky_backward_kernel": 4,
        "window_forward_kernel": 1,
        "window_backward_kernel": 1,
        "pack_kernel": 1,
        "unpack_kernel": 1,
    }
    for launch in launches:
        assert "fma.rn.f32" not in launch["ptx"], launch["name"]  # the bits of the references depend on it
    for name in ("leaky_forward_kernel", "leaky_backward_kernel"):
        kernels = [launch["hash"] for launch in launches if launch["name"] == name]
        assert len(set(kernels[:3])) == 1, "three lengths, one kernel"
    for launch in launches:
        if launch["name"] in WIDE and launch["features"] > 1:
            assert "ld.global.v4.b32" in launch["ptx"] or "ld.global.v2.b32" in launch["ptx"], launch["name"]
