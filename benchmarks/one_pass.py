"""The non-spiking network of the same shape: ReLU in place of the neurons, one pass instead of T steps, int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitspike.deploy import ir
from bitspike.measure import rivals
from bitspike.measure.cases import Call

CALIBRATION_SAMPLES = 16


def one_pass_sessions(
    graph: ir.Graph, samples: NDArray[np.uint8], folder: Path, *, batch: int, threads: int, against: set[str]
) -> dict[str, Call]:
    """Calls on float pixels by name: statically quantized, every operation that can be is in int8."""
    exact, quantized = folder / "one_pass.onnx", folder / "one_pass_int8.onnx"
    example = torch.zeros(batch, *samples.shape[1:])
    rivals.onnx_export(relu_network(graph), example, exact)
    rivals.onnx_int8(exact, quantized, samples[:CALIBRATION_SAMPLES], batch, operations=None)
    calls = {}
    if "ort" in against:
        calls["one pass, ONNX Runtime int8"] = rivals.onnx_session(quantized, threads)
    if "openvino" in against:
        calls["one pass, OpenVINO int8"] = rivals.openvino_session(quantized, threads)
    return calls


def relu_network(graph: ir.Graph) -> nn.Module:
    """Convolutions, ReLU, max pooling, mean over the pixels and the classifier of a VGG-style ``graph``."""
    layers: list[nn.Module] = []
    # Biases differ: the exporter would share equal ones between layers, which keeps ONNX Runtime from fusing int8 kernels.
    generator = torch.Generator().manual_seed(0)
    for node in graph.nodes:
        match node:
            case ir.Conv():
                outputs, inputs, kernel, _ = node.weight.shape
                conv = nn.Conv2d(inputs, outputs, kernel, node.stride, node.padding)
                conv.weight.data = _unit_gain(node.weight)
                conv.bias.data = 0.1 * torch.randn(outputs, generator=generator)  # type: ignore[union-attr]
                layers += [conv, nn.ReLU()]
            case ir.OrPool():
                layers.append(nn.MaxPool2d(node.kernel, node.stride, node.padding))
            case ir.Readout():
                linear = nn.Linear(node.weight.shape[1], node.weight.shape[0])
                linear.weight.data = _unit_gain(node.weight)
                layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear]
            case ir.Input() | ir.Lif():
                pass
            case _:
                raise TypeError(f"{type(node).__name__} is not part of a VGG-style network")
    return nn.Sequential(*layers).eval()


def _unit_gain(weight: NDArray[np.int8]) -> torch.Tensor:
    """Weights scaled so that activations neither grow nor fade from layer to layer."""
    values = torch.from_numpy(weight).float()
    return values * (2.0 / (values[0].numel() * values.square().mean())).sqrt()
