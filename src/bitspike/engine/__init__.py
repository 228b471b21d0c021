"""The native engine from Python: load an artifact, run it, inspect it. Needs numpy only.

net = bitspike.engine.load("model.bspk")
logits = net.run(samples)          # uint8 (N, C, H, W) -> int32 (N, classes)
"""

from __future__ import annotations

from .network import Network, levels, load

__all__ = ["Network", "levels", "load"]
