"""Peak memory of a process that only loads a network and runs it.

Each runtime gets a fresh Python process, so the figure includes the interpreter and numpy; a row of those alone says
how much that is. The engine's process never imports torch.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import engine
from ..errors import BitspikeError, ConfigError
from . import rivals

__all__ = ["MemoryRow", "peak_memory"]

RUNS = 3
TIMEOUT_S = 300


@dataclass(frozen=True)
class MemoryRow:
    """Peak resident bytes of the whole process for ``batch`` samples a call."""

    name: str
    batch: int
    peak_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


# A process that replaces its program keeps the larger peak of the one before in getrusage, so Linux's own counter for
# the present program comes first.
_PEAK = """
import resource, sys
def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024
"""
_LOAD = "import numpy as np; x = np.load(sys.argv[1])\n"
_REPORT = f"\nfor _ in range({RUNS}): run()\nprint(peak())"

_PROGRAMS = {
    "Python and numpy alone": _PEAK + _LOAD + "run = lambda: None" + _REPORT,
    "bitspike": _PEAK
    + _LOAD
    + "from bitspike import engine\nnet = engine.load(sys.argv[2])\nrun = lambda: net.run(x)\n"
    + "assert 'torch' not in sys.modules"
    + _REPORT,
    "torch": _PEAK
    + _LOAD
    + "import torch\ntorch.set_num_threads(1)\nfrom bitspike import engine\nfrom bitspike.measure.rivals import torch_network\n"
    + "net = torch_network(engine.load(sys.argv[2]).graph())\npixels = torch.from_numpy(x.astype(np.float32))\n"
    + "def run():\n    with torch.inference_mode(): net(pixels)"
    + _REPORT,
    "ort": _PEAK
    + _LOAD
    + "import onnxruntime\noptions = onnxruntime.SessionOptions()\noptions.intra_op_num_threads = 1\n"
    + "net = onnxruntime.InferenceSession(sys.argv[2], options, providers=['CPUExecutionProvider'])\n"
    + "pixels = x.astype(np.float32)\nrun = lambda: net.run(None, {'pixels': pixels})"
    + _REPORT,
}


def peak_memory(
    artifact: bytes | str | os.PathLike[str],
    samples: NDArray[np.uint8],
    *,
    batch: int = 1,
    against: Sequence[str] | None = None,
) -> list[MemoryRow]:
    """Peak memory of the engine, torch and ONNX Runtime on ``batch`` of the samples, one thread; rows as they ran.

    against: some of "torch", "ort"; None takes those that are installed.
    """
    chosen = rivals.available_rivals() if against is None else tuple(against)
    unknown = sorted(set(chosen) - set(rivals.RIVALS))
    if unknown:
        raise ConfigError(f"against has {', '.join(unknown)}, accepted: {', '.join(rivals.RIVALS)}")
    data = artifact if isinstance(artifact, bytes) else Path(artifact).read_bytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x, file = folder / "samples.npy", folder / "network.bspk"
        np.save(x, np.resize(samples[:batch], (batch, *samples.shape[1:])))
        file.write_bytes(data)
        runs = [("Python and numpy alone", "Python and numpy alone", file), ("bitspike", "bitspike", file)]
        if "ort" in chosen:
            exact, quantized = folder / "fp32.onnx", folder / "int8.onnx"
            rivals.onnx_float(engine.load(data).graph(), exact, batch)
            rivals.onnx_int8(str(exact), quantized, samples[: max(batch, 16)], batch)
            runs += [("ONNX Runtime int8", "ort", quantized), ("ONNX Runtime fp32", "ort", exact)]
        if "torch" in chosen:
            runs.append(("torch fp32", "torch", file))
        return [MemoryRow(label, batch, _child_peak(_PROGRAMS[program], x, path)) for label, program, path in runs]


def _child_peak(program: str, samples: Path, file: Path) -> int:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(samples), str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BitspikeError(f"the process that measures memory failed: {last}")
    return int(done.stdout.split()[-1])
