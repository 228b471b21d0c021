"""What a launch needs: triton, loaded late; what it refuses; how large its blocks are."""

from __future__ import annotations

import importlib
import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import torch
from torch import Tensor

from ..native.memory import SURROGATES
from ..surrogate import Surrogate

__all__ = ["OPTIONS", "block_size", "device_of", "kernels", "membrane_dtype", "refusal", "segment_length"]

OPTIONS = {
    "num_warps": 4,
    "enable_fp_fusion": False,
}  # a product and a sum are rounded one by one, as in the references
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SEGMENT = 8  # steps that a kernel takes together


def refusal(tensor: Tensor, surrogate: Surrogate | None = None) -> str | None:
    """Why no kernel runs on ``tensor``, None where one does: on a GPU, or anywhere in Triton's interpreter."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install 'bitspike[gpu]'"
    if tensor.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton has no kernels for {tensor.device.type}"
    if tensor.dtype not in DTYPES:
        return f"there is no kernel for {tensor.dtype}"
    if tensor.layout != torch.strided:
        return f"there is no kernel for {tensor.layout}"
    if surrogate is not None and type(surrogate) not in SURROGATES:
        return f"there is no kernel for the surrogate {type(surrogate).__name__}"
    return None


def kernels(name: str) -> ModuleType:
    """Module ``name`` of the kernels."""
    return importlib.import_module(f".kernels.{name}", __package__)


def device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Makes the GPU of ``tensor`` the current one, as launches go there."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def membrane_dtype(dtype: torch.dtype) -> torch.dtype:
    """What is computed in for data of ``dtype``: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def segment_length(steps: int) -> int:
    """Steps handled together: all of a short sequence, so that no lanes idle; four variants of a kernel at most."""
    return min(SEGMENT, 1 << (steps - 1).bit_length())


def block_size(features: int, dtype: torch.dtype, widest: int = 512) -> int:
    """Neurons per program: few where there are few, so that all of a GPU has work, or where one takes many registers."""
    widest = min(widest, 256) if dtype == torch.float64 else widest
    return min(widest, 512 if features >= 2**17 else 256 if features >= 2**16 else 128)
