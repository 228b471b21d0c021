"""One convolution or matrix product on other runtimes, without neurons: their best case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from networks import Layer
from numpy.typing import NDArray
from torch.nn import functional as F

from bitspike.measure import rivals

OPSET = 17
IR_VERSION = 9


def layer_calls(
    layer: Layer, spikes: NDArray[np.uint8], threads: int, against: set[str]
) -> dict[str, Callable[[], Any]]:
    """Calls by name of the runtime, or by name and setting, on ``spikes`` (images, C, H, W); int8 gets and gives bytes."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (layer.outputs, layer.channels, layer.kernel, layer.kernel)).astype(np.int8)
    linear = layer.kernel == 1 and layer.outputs > layer.channels
    inputs = np.ascontiguousarray(np.moveaxis(spikes, 1, -1).reshape(-1, layer.channels)) if linear else spikes
    weight = np.ascontiguousarray(weight[:, :, 0, 0].T) if linear else weight
    calls = _torch_calls(inputs, weight, layer, linear) if "torch" in against else {}
    if not {"ort", "openvino"} & against:
        return calls
    floats = inputs.astype(np.float32)
    fp32, int8 = _fp32_model(floats.shape, weight, layer, linear), _int8_model(floats.shape, weight, layer, linear)
    if "ort" in against:
        calls["ONNX Runtime fp32"] = _bound(rivals.onnx_session(fp32, threads), floats)
        calls["ONNX Runtime int8"] = _bound(rivals.onnx_session(int8, threads), inputs)
    if "openvino" in against:
        calls["OpenVINO fp32"] = _bound(rivals.openvino_session(fp32, threads), floats)
        calls["OpenVINO int8"] = _bound(rivals.openvino_session(int8, threads), inputs)
    if "openvino" in against and not linear:  # its kernels are channels last; with bytes only the output may be
        last = rivals.openvino_session(fp32, threads, channels_last=("input", "output"))
        calls["OpenVINO fp32, channels last"] = _bound(last, np.ascontiguousarray(np.moveaxis(floats, 1, -1)))
        last = rivals.openvino_session(int8, threads, channels_last=("output",))
        calls["OpenVINO int8, channels last"] = _bound(last, inputs)
    return calls


def attention_calls(channels: int, heads: int, spikes: list[NDArray[np.uint8]]) -> dict[str, Callable[[], Any]]:
    """torch on query, key and value (images, C, H, W), in both orders of the two products."""
    q, k, v = (torch.from_numpy(x.reshape(len(x) * heads, channels // heads, -1)).float() for x in spikes)
    return {
        "torch fp32, V (K^T Q)": lambda: torch.bmm(v, torch.bmm(k.transpose(1, 2), q)),
        "torch fp32, (V K^T) Q": lambda: torch.bmm(torch.bmm(v, k.transpose(1, 2)), q),
    }


def _torch_calls(
    inputs: NDArray[np.uint8], weight: NDArray[np.int8], layer: Layer, linear: bool
) -> dict[str, Callable[[], Any]]:
    x, w = torch.from_numpy(inputs).float(), torch.from_numpy(weight).float()
    if linear:
        rows = w.T.contiguous()
        return {"torch fp32": lambda: F.linear(x, rows)}
    last = x.contiguous(memory_format=torch.channels_last), w.contiguous(memory_format=torch.channels_last)
    return {
        "torch fp32": lambda: F.conv2d(x, w, padding=layer.kernel // 2),
        "torch fp32, channels last": lambda: F.conv2d(*last, padding=layer.kernel // 2),
    }


def _bound(call: Callable[[Any], Any], x: NDArray[Any]) -> Callable[[], Any]:
    return lambda: call(x)


def _fp32_model(shape: tuple[int, ...], weight: NDArray[np.int8], layer: Layer, linear: bool) -> bytes:
    from onnx import TensorProto, numpy_helper

    nodes = [_product("x", "w", "y", layer, linear)]
    return _model(nodes, shape, TensorProto.FLOAT, [numpy_helper.from_array(weight.astype(np.float32), "w")])


def _int8_model(shape: tuple[int, ...], weight: NDArray[np.int8], layer: Layer, linear: bool) -> bytes:
    """Bytes in, bytes out: dequantize, product, quantize, which both runtimes turn into one integer kernel."""
    from onnx import TensorProto, helper, numpy_helper

    reach = 127.0 * np.sqrt(layer.channels * layer.kernel**2)
    constants = {
        "w": weight,
        "w_scale": np.ones(layer.outputs, np.float32),
        "w_zero": np.zeros(layer.outputs, np.int8),
        "x_scale": np.float32(1),
        "x_zero": np.uint8(0),
        "y_scale": np.float32(reach / 127),
        "y_zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wf"], axis=1 if linear else 0),
        _product("xf", "wf", "yf", layer, linear),
        helper.make_node("QuantizeLinear", ["yf", "y_scale", "y_zero"], ["y"]),
    ]
    arrays = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return _model(nodes, shape, TensorProto.UINT8, arrays)


def _product(x: str, w: str, y: str, layer: Layer, linear: bool) -> Any:
    from onnx import helper

    if linear:
        return helper.make_node("MatMul", [x, w], [y])
    return helper.make_node("Conv", [x, w], [y], kernel_shape=[layer.kernel] * 2, pads=[layer.kernel // 2] * 4)


def _model(nodes: list[Any], shape: tuple[int, ...], kind: int, arrays: list[Any]) -> bytes:
    from onnx import helper

    ends = [helper.make_tensor_value_info("x", kind, shape)], [helper.make_tensor_value_info("y", kind, None)]
    model = helper.make_model(
        helper.make_graph(nodes, "layer", *ends, arrays), opset_imports=[helper.make_opsetid("", OPSET)]
    )
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())
