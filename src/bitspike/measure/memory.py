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
from ..errors import BitspikeError
from . import rivals

__all__ = ["MemoryRow", "peak_memory"]

RUNS = 3
CALIBRATION_SAMPLES = 16
TIMEOUT_S = 300


@dataclass(frozen=True)
class MemoryRow:
    """Peak resident bytes of the whole process for ``batch`` samples a call."""

    name: str
    batch: int
    peak_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_FRAME = """
import resource, sys
import numpy as np

def peak():
    # A process that replaced another program inherits its peak in getrusage, so Linux's own counter comes first.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024

x, file, runs = np.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
{load}
for _ in range(runs):
    run()
print(peak())
"""

_ENGINE = """
from bitspike import engine
net = engine.load(file)
def run():
    net.run(x)
assert "torch" not in sys.modules
"""

_TORCH = """
import torch
from bitspike import engine
from bitspike.measure.torch_network import torch_network
torch.set_num_threads(1)
net, pixels = torch_network(engine.load(file).graph()), torch.from_numpy(x.astype(np.float32))
def run():
    with torch.inference_mode():
        net(pixels)
"""

_ONNX = """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
net = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
pixels = x.astype(np.float32)
def run():
    net.run(None, {"pixels": pixels})
"""

_OPENVINO = """
import openvino
core = openvino.Core()
settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()
pixels = x.astype(np.float32)
def run():
    request.infer({0: pixels}, share_inputs=True)
"""

_NOTHING = """
def run():
    pass
"""


def peak_memory(
    artifact: bytes | str | os.PathLike[str],
    samples: NDArray[np.uint8],
    *,
    batch: int = 1,
    against: Sequence[str] | None = None,
) -> list[MemoryRow]:
    """Peak memory of the engine, torch, ONNX Runtime and OpenVINO on ``batch`` of the samples, one thread; rows as they
    ran.

    against: names of ``rivals.RIVALS``, None: those that are installed; torch.compile has no row, its compiler runs in
    the same process.
    """
    chosen = rivals.check_rivals(against)
    data = artifact if isinstance(artifact, bytes) else Path(artifact).read_bytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x, file = folder / "samples.npy", folder / "network.bspk"
        np.save(x, np.resize(samples[:batch], (batch, *samples.shape[1:])))
        file.write_bytes(data)
        runs = [("Python and numpy alone", _NOTHING, file), ("bitspike", _ENGINE, file)]
        if {"ort", "openvino"} & set(chosen):
            exact, quantized = folder / "fp32.onnx", folder / "int8.onnx"
            rivals.onnx_float(engine.load(data).graph(), exact, batch)
            rivals.onnx_int8(exact, quantized, samples[: max(batch, CALIBRATION_SAMPLES)], batch)
            for rival, title, load in (("ort", "ONNX Runtime", _ONNX), ("openvino", "OpenVINO", _OPENVINO)):
                if rival in chosen:
                    runs += [(f"{title} int8", load, quantized), (f"{title} fp32", load, exact)]
        if "torch" in chosen:
            runs.append(("torch fp32", _TORCH, file))
        return [MemoryRow(label, batch, _child_peak(load, x, path)) for label, load, path in runs]


def _child_peak(load: str, samples: Path, file: Path) -> int:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _FRAME.replace("{load}", load), str(samples), str(file), str(RUNS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BitspikeError(f"the process that measures memory failed: {last}")
    return int(done.stdout.split()[-1])
