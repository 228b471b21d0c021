"""What the tests of kernels share."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
from torch import Tensor

DEVICE = torch.device("cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: pip install 'bitspike[gpu]'"
)


def draw(*shape: int, dtype: torch.dtype = torch.float64, scale: float = 1.0, gradient: bool = True) -> Tensor:
    """A leaf of normal values on the device of the kernels."""
    values = scale * torch.randn(*shape, dtype=torch.float64)
    return values.to(DEVICE, dtype).requires_grad_(gradient)
