"""The same network on other runtimes, each in its best case, to be timed beside the engine.

``onnx_float`` and ``onnx_int8`` export ``torch_network(graph)`` for ONNX Runtime, so any ``.bspk`` can be compared without
its training code; ``plain_copy`` is a trained model without its parametrizations and batch norm.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..deploy import ir
from ..errors import BitspikeError
from ..layers import Synapse
from ..layers.norm import batch_norm_affine
from .torch_network import torch_network

__all__ = ["RIVALS", "available_rivals", "onnx_float", "onnx_int8", "onnx_session", "plain_copy"]

RIVALS = ("torch", "ort")
OPSET = 17
Samples = NDArray[np.uint8]


def available_rivals() -> tuple[str, ...]:
    """Names of :data:`RIVALS` whose packages are installed."""
    has_onnx = all(find_spec(package) for package in ("onnx", "onnxruntime"))
    return RIVALS if has_onnx else ("torch",)


def require_onnx() -> None:
    """BitspikeError naming the extra where the packages of the "ort" rival are missing."""
    missing = [package for package in ("onnx", "onnxruntime") if not find_spec(package)]
    if missing:
        raise BitspikeError(
            f"comparing with ONNX Runtime needs {' and '.join(missing)}: pip install 'bitspike[export]'"
        )


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
                module.layer.bias = nn.Parameter(offset.clone())
                module.norm = _Folded()  # type: ignore[assignment]
    return plain


class _Folded(nn.Module):
    """Stands where a batch norm was that now lies in the layer's weights."""

    def forward(self, x: Tensor, repeats: int = 1) -> Tensor:
        return x


def onnx_float(graph: ir.Graph, path: str | os.PathLike[str], batch: int) -> None:
    """Write the fp32 ONNX file of ``graph`` for ``batch`` samples a call; input "pixels", output "logits"."""
    require_onnx()
    example = torch.zeros(batch, *_sample_shape(graph))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torch_network(graph),
            (example,),
            os.fspath(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["logits"],
        )


def onnx_int8(float_path: str, path: str | os.PathLike[str], samples: Samples, batch: int) -> None:
    """Statically quantize an fp32 file: QDQ, int8 weights per channel, uint8 activations, calibrated on ``samples``."""
    require_onnx()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    batches = _batches(samples, batch)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, Any] | None:
            return next(batches, None)

    with _quiet():
        quantize_static(
            float_path,
            os.fspath(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "MaxPool"],
        )


def onnx_session(path: str | os.PathLike[str], threads: int) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """A function from float pixels (batch, C, H, W) to logits, run by ONNX Runtime on ``threads`` threads."""
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


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
