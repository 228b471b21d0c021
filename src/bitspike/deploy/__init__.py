"""From a trained model to an integer graph and its artifact.

The graph, its checks, the numpy reference and the writer need numpy only; lowering and the exact training-side
forward load torch on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import artifact, check, ir, reference

if TYPE_CHECKING:
    from .exact import exact_model, integer_logits
    from .lower import Artifact, compile

__all__ = ["Artifact", "artifact", "check", "compile", "exact_model", "integer_logits", "ir", "reference"]

_LAZY = {"Artifact": "lower", "compile": "lower", "exact_model": "exact", "integer_logits": "exact"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module 'bitspike.deploy' has no attribute {name!r}")
