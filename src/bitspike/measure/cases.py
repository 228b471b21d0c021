"""What stands in a latency table: each runtime as a call on one batch of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import engine
from ..deploy import ir
from . import rivals
from .torch_network import torch_network

__all__ = ["Case", "engine_case", "engine_cases", "rival_cases", "trained_case"]

Samples = NDArray[np.uint8]
Call = Callable[[NDArray[np.float32]], NDArray[Any]]
CALIBRATION_SAMPLES = 64


@dataclass(frozen=True)
class Case:
    """``prepare`` turns a batch of samples as it arrives into the call that is timed; ``logits`` maps u8 samples of one
    batch to (N, classes). Cases of one name are settings of one runtime, and the fastest stands in the table."""

    name: str
    runtime: str
    setting: str
    file_bytes: int | None
    prepare: Callable[[Samples], Callable[[], Any]]
    logits: Callable[[Samples], NDArray[Any]]

    @property
    def key(self) -> str:
        """Unique among the cases of one measurement."""
        return f"{self.name}, {self.setting}" if self.setting else self.name


def engine_cases(data: bytes, threads: int = 1) -> list[Case]:
    """The engine at every level of this machine, slowest first."""
    return [
        engine_case(engine.load(data, level=level), f"bitspike, {level}", len(data), threads)
        for level in engine.levels()
    ]


def engine_case(network: engine.Network, name: str, size: int, threads: int = 1) -> Case:
    """The engine takes bytes: nothing is prepared."""

    def run(samples: Samples) -> NDArray[np.int32]:
        return network.run(samples, threads=threads)

    return Case(name, "bitspike", "", size, lambda batch: lambda: run(batch), run)


def rival_cases(
    graph: ir.Graph, samples: Samples, folder: Path, *, batch: int, threads: int, against: Sequence[str]
) -> list[Case]:
    """The rivals named by ``against`` (see ``rivals.RIVALS``) on ``graph``; files lie in ``folder``.

    samples: u8, they calibrate the int8 files. torch runs as many threads as ``torch.set_num_threads`` was told.
    """
    cases: list[Case] = []
    if "torch" in against:
        plain, last = torch_network(graph), torch_network(graph).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        cases.append(_float_case("torch fp32", "torch", _torch_call(plain)))
        if graph.input.frames == 1:
            cases.append(_float_case("torch fp32", "torch", _torch_call(last), "channels last", _channels_last))
    if "compile" in against:
        example = torch.from_numpy(np.resize(samples[:batch], (batch, *samples.shape[1:])).astype(np.float32))
        run = rivals.compiled(torch_network(graph), example)
        cases.append(_float_case("torch.compile fp32", "torch", _torch_call(run)))
    if not {"ort", "openvino"} & set(against):
        return cases
    exact, quantized = folder / "fp32.onnx", folder / "int8.onnx"
    rivals.onnx_float(graph, exact, batch)
    rivals.onnx_int8(exact, quantized, samples[:CALIBRATION_SAMPLES], batch)
    if "ort" in against:
        for kind, path in (("fp32", exact), ("int8", quantized)):
            cases.append(_file_case(f"ONNX Runtime {kind}", "onnxruntime", path, rivals.onnx_session(path, threads)))
    if "openvino" in against:
        for kind, path, precision in (("fp32", exact, "f32"), ("bf16", exact, "bf16"), ("int8", quantized, "f32")):
            call = rivals.openvino_session(path, threads, precision)
            cases.append(_file_case(f"OpenVINO {kind}", "openvino", path, call))
    return cases


def trained_case(model: nn.Module) -> Case:
    """The trained network itself, its weights in place and batch norm fused."""
    trained = rivals.plain_copy(model).cpu()

    def mean_logits(pixels: torch.Tensor) -> NDArray[Any]:
        return trained(pixels.transpose(0, 1) if pixels.dim() == 5 else pixels).mean(0).numpy()

    return _float_case("torch fp32, as trained", "torch", mean_logits)


def _torch_call(network: nn.Module) -> Callable[[torch.Tensor], NDArray[Any]]:
    return lambda pixels: network(pixels).numpy()


def _channels_last(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.contiguous(memory_format=torch.channels_last)


def _float_case(
    name: str,
    runtime: str,
    call: Callable[[torch.Tensor], NDArray[Any]],
    setting: str = "",
    arrange: Callable[[torch.Tensor], torch.Tensor] = lambda pixels: pixels,
) -> Case:
    """torch on float pixels; the conversion from bytes and to its layout is not timed."""

    def prepare(batch: Samples) -> Callable[[], Any]:
        pixels = arrange(torch.from_numpy(batch.astype(np.float32)))
        return lambda: call(pixels)

    return Case(name, runtime, setting, None, prepare, lambda batch: prepare(batch)())


def _file_case(name: str, runtime: str, path: Path, call: Call) -> Case:
    """A runtime that loads a file and takes float pixels; the conversion from bytes is not timed."""

    def prepare(batch: Samples) -> Callable[[], Any]:
        pixels = batch.astype(np.float32)
        return lambda: call(pixels)

    return Case(name, runtime, "", path.stat().st_size, prepare, lambda batch: prepare(batch)())
