"""The same network on other runtimes, each in its best case, to be timed beside the engine.

``onnx_float`` and ``onnx_int8`` export ``torch_network(graph)``; ONNX Runtime and OpenVINO run these files, so any
``.bspk`` can be compared without its training code. ``plain_copy`` is a trained model without its parametrizations and
batch norm.
"""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..deploy import ir
from ..errors import BitspikeError, ConfigError
from ..layers import Synapse
from ..layers.norm import batch_norm_affine
from .torch_network import torch_network

__all__ = [
    "RIVALS",
    "available_rivals",
    "check_rivals",
    "compiled",
    "missing_note",
    "onnx_export",
    "onnx_float",
    "onnx_int8",
    "onnx_session",
    "openvino_session",
    "plain_copy",
]

RIVALS = ("torch", "compile", "ort", "openvino")
PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": (),
    "compile": (),
    "ort": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "onnxruntime", "openvino"),  # it runs the file that ONNX Runtime's quantizer writes
}
TITLES = {"ort": "ONNX Runtime", "openvino": "OpenVINO"}
EXTRAS = {"ort": "export", "openvino": "bench"}
OPSET = 17
QUANTIZED = ("Conv", "Gemm", "MatMul", "MaxPool")
Samples = NDArray[np.uint8]
Call = Callable[[NDArray[np.float32]], NDArray[Any]]


def available_rivals() -> tuple[str, ...]:
    """Names of :data:`RIVALS` whose packages are installed; "compile" takes long to prepare and is only run on demand."""
    return tuple(name for name in RIVALS if name != "compile" and not _missing(name))


def check_rivals(against: Sequence[str] | None) -> tuple[str, ...]:
    """Names to compare with, None: all that are available. ConfigError for an unknown one, BitspikeError for one that
    cannot run here, naming what to install."""
    if against is None:
        return available_rivals()
    unknown = sorted(set(against) - set(RIVALS))
    if unknown:
        raise ConfigError(f"against has {', '.join(unknown)}, accepted: {', '.join(RIVALS)}")
    for name in against:
        require(name)
    return tuple(against)


def missing_note() -> str:
    """One sentence on the rivals that are not installed here, empty where all are."""
    absent = [f"{title} (pip install 'bitspike[{EXTRAS[name]}]')" for name, title in TITLES.items() if _missing(name)]
    return f"Not installed here and left out: {', '.join(absent)}." if absent else ""


def require(name: str) -> None:
    """BitspikeError where rival ``name`` cannot run here, naming what to install."""
    missing = _missing(name)
    if missing:
        raise BitspikeError(
            f"comparing with {TITLES[name]} needs {' and '.join(missing)}: pip install 'bitspike[{EXTRAS[name]}]'"
        )
    compiler = os.environ.get("CXX", "g++")
    if name == "compile" and not (shutil.which(compiler) or shutil.which("clang++")):
        raise BitspikeError(f"torch.compile needs a C++ compiler; neither {compiler} nor clang++ is on the path")


def _missing(name: str) -> list[str]:
    return [package for package in PACKAGES[name] if not find_spec(package)]


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy of a trained model at its fastest: effective weights in place, batch norm fused, evaluation mode."""
    plain = copy.deepcopy(getattr(model, "source", model)).eval()
    for parent in list(plain.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d | nn.Linear) and parametrize.is_parametrized(child):
                setattr(parent, name, _baked(child))
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, Synapse):
                gain, offset = batch_norm_affine(module.norm)
                shape = (-1, *[1] * (module.layer.weight.dim() - 1))
                module.layer.weight = nn.Parameter(module.layer.weight * gain.view(shape))
                bias = 0 if module.layer.bias is None else gain * module.layer.bias
                module.layer.bias = nn.Parameter(offset + bias)
                module.norm = _Folded()  # type: ignore[assignment]
    return plain


class _Folded(nn.Module):
    """Stands where a batch norm was that now lies in the layer's weights."""

    def forward(self, x: Tensor, repeats: int = 1) -> Tensor:
        return x


def compiled(network: nn.Module, example: Tensor) -> nn.Module:
    """``network`` under torch.compile with inductor and frozen weights, compiled for inputs of the shape of ``example``."""
    require("compile")
    from torch._inductor import config

    torch._dynamo.reset()  # forgets earlier networks, of which only so many may be compiled
    run = torch.compile(network, dynamic=False)
    with config.patch(freezing=True), torch.inference_mode():
        run(example)
    return run  # type: ignore[return-value]


def onnx_float(graph: ir.Graph, path: str | os.PathLike[str], batch: int) -> None:
    """Write the fp32 ONNX file of ``graph`` for ``batch`` samples a call; input "pixels", output "logits"."""
    onnx_export(torch_network(graph), torch.zeros(batch, *_sample_shape(graph)), path)


def onnx_export(network: nn.Module, example: Tensor, path: str | os.PathLike[str]) -> None:
    """Write the fp32 ONNX file of ``network`` for inputs of the shape of ``example``; input "pixels", output "logits"."""
    require("ort")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            os.fspath(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["logits"],
        )


def onnx_int8(
    float_path: str | os.PathLike[str],
    path: str | os.PathLike[str],
    samples: Samples,
    batch: int,
    operations: Sequence[str] | None = QUANTIZED,
) -> None:
    """Statically quantize an fp32 file: QDQ, int8 weights per channel, uint8 activations, calibrated on ``samples``.

    operations: ONNX operations to quantize, None: all that can be.
    """
    require("ort")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    batches = _batches(samples, batch)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, Any] | None:
            return next(batches, None)

    with _quiet():
        quantize_static(
            os.fspath(float_path),
            os.fspath(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=None if operations is None else list(operations),
        )


def onnx_session(model: str | os.PathLike[str] | bytes, threads: int) -> Call:
    """A function from the input array to the output array of an ONNX file (or its bytes), run by ONNX Runtime."""
    require("ort")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else os.fspath(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino_session(
    model: str | os.PathLike[str] | bytes, threads: int, precision: str = "f32", channels_last: Sequence[str] = ()
) -> Call:
    """A function from the input array to the output array of an ONNX file (or its bytes), run by OpenVINO on the CPU.

    One stream with the latency hint. precision: of the float parts, "f32" or "bf16". channels_last: which of "input" and
    "output", four-dimensional, are arrays (N, H, W, C). The array that comes back is overwritten by the next call.
    """
    require("openvino")
    import openvino
    from openvino.preprocess import PrePostProcessor

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    network = core.read_model(model if isinstance(model, bytes) else os.fspath(model))
    if channels_last:
        layouts = PrePostProcessor(network)
        for name in channels_last:
            end = layouts.input() if name == "input" else layouts.output()
            end.model().set_layout(openvino.Layout("NCHW"))
            end.tensor().set_layout(openvino.Layout("NHWC"))
        network = layouts.build()
    request = core.compile_model(network, "CPU", settings).create_infer_request()

    def call(x: NDArray[np.float32]) -> NDArray[Any]:
        request.infer({0: x}, share_inputs=True)
        return request.get_output_tensor(0).data

    return call


def _baked(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """A new layer with the effective weight (torch's own removal would also change the class of the original)."""
    bias = layer.bias is not None
    plain: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Linear):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=bias)
    else:
        plain = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            bias,
            layer.padding_mode,
        )
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
        if plain.bias is not None and layer.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain.requires_grad_(False)


def _sample_shape(graph: ir.Graph) -> tuple[int, ...]:
    node = graph.input
    shape = (node.channels, node.height, node.width)
    return shape if node.frames == 1 else (node.frames, *shape)


def _batches(samples: Samples, batch: int) -> Iterator[dict[str, Any]]:
    for start in range(0, max(len(samples) - batch, 0) + 1, batch):
        rows = np.resize(samples[start : start + batch], (batch, *samples.shape[1:]))
        yield {"pixels": rows.astype(np.float32)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the quantizer logs."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
