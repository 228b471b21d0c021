"""Kernels for GPUs, written in Triton: what ``ops.native`` is for the CPU. triton is imported at the first launch."""

from ..backends import Backend, register_backend
from ..programs import LeakyProgram, WindowProgram
from . import leaky, window
from .bits import pack_bits, unpack_bits

__all__ = ["pack_bits", "unpack_bits"]

register_backend("cuda", LeakyProgram, Backend("triton", leaky.refusal, leaky.run))
register_backend("cuda", WindowProgram, Backend("triton", window.refusal, window.run))
