"""A network as one HTML page: the emitted C99 compiled to WebAssembly, shown at work.

Works offline, from a file: the page holds program, samples, style and script, and forbids itself the network.
"""

from __future__ import annotations

from .build import compile_wasm, missing_tools
from .page import render_page, write_page
from .samples import PageSamples, first_of_each_class, stored_samples

__all__ = [
    "PageSamples",
    "compile_wasm",
    "first_of_each_class",
    "missing_tools",
    "render_page",
    "stored_samples",
    "write_page",
]
