"""One pair of C99 files from an integer graph: no allocation, no library calls, static buffers; see docs/c99.md."""

from .plan import Footprint, sample_shape
from .write import emit, export, footprint

__all__ = ["Footprint", "emit", "export", "footprint", "sample_shape"]
