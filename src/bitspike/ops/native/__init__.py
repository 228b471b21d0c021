"""Compiled training kernels for the CPU: whole sequences in one call, forward and backward, with torch's threads.

They give the spikes of the reference bit for bit, in float32 and float64, and its gradients up to rounding. The
instruction set is chosen when the first kernel runs, see BITSPIKE_LEVEL.
"""

from ..backends import Backend, register_backend
from ..programs import LeakyProgram, WindowProgram
from . import leaky, window

__all__: list[str] = []

register_backend("cpu", LeakyProgram, Backend("native", leaky.refusal, leaky.run))
register_backend("cpu", WindowProgram, Backend("native", window.refusal, window.run))
