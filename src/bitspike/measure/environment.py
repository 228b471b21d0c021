"""What the figures were measured on: processor, system and versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["environment"]

PACKAGES = ("bitspike", "torch", "numpy", "onnxruntime", "openvino")


def environment() -> dict[str, Any]:
    """Processor, logical cores this process may use, system, and versions of the packages that are installed."""
    from .. import __version__, engine

    versions = {"bitspike": __version__}
    for package in PACKAGES[1:]:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "engine_levels": engine.levels(),
        "python": platform.python_version(),
    } | versions


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            fields = dict(line.split(":", 1) for line in info.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    named = {key.strip(): value.strip() for key, value in fields.items()}
    name = named.get("model name") or platform.processor() or platform.machine()
    family = f", family {named['cpu family']} model {named['model']}" if {"cpu family", "model"} <= named.keys() else ""
    return name + family
