"""The native engine from Python: load an artifact, run it, inspect it. Needs numpy only.

net = bitspike.engine.load("model.bspk")
logits = net.run(samples)          # uint8 (N, C, H, W) -> int32 (N, classes)
"""

from __future__ import annotations

from .network import Network, kernel_families, levels, load
from .tuning import autotune

__all__ = ["Network", "autotune", "kernel_families", "levels", "load"]
