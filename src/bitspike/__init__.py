"""bitspike: train, compress, measure and deploy low-bit spiking neural networks.

Sub-packages are loaded on first use, so that ``bitspike.engine`` works where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import ArtifactError, BitspikeError, ConfigError, LoweringError

if TYPE_CHECKING:
    from . import compress, data, deploy, encode, engine, layers, learn, measure, models, neurons, ops, recipes
    from .models import create_model, list_models

__version__ = "0.1.0"

_PACKAGES = frozenset("compress data deploy encode engine layers learn measure models neurons ops recipes".split())
_MODEL_FUNCTIONS = ("create_model", "list_models")

__all__ = [
    "ArtifactError",
    "BitspikeError",
    "ConfigError",
    "LoweringError",
    "compress",
    "create_model",
    "data",
    "deploy",
    "encode",
    "engine",
    "layers",
    "learn",
    "list_models",
    "measure",
    "models",
    "neurons",
    "ops",
    "recipes",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name in _MODEL_FUNCTIONS:
        return getattr(importlib.import_module(".models", __name__), name)
    raise AttributeError(f"module 'bitspike' has no attribute {name!r}")
