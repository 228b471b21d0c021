"""The page of a run: finds its artifact, its figures and real samples, and has ``deploy.web`` write it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import data, engine
from ..data.files import ENVIRONMENT_ROOT
from ..deploy import web
from ..errors import BitspikeError

__all__ = ["write_run_page"]


def write_run_page(
    artifact: Path, target: Path, stored: NDArray[np.uint8] | None, data_root: Path | None = None
) -> tuple[dict[str, int], str]:
    """Write the page of ``artifact``, with the figures of the run in whose folder it lies.

    Its samples are of the run's test data where that is found without a download, else ``stored`` u8 (N, [T,] C, H, W),
    the artifact's own. Returns the sizes, and what the samples are. BitspikeError where ``data_root`` is given and does
    not hold the data.
    """
    network = engine.load(artifact)
    result = _result(artifact.parent / "result.json", network.artifact_bytes)
    samples = _test_samples(result, network.input_shape, artifact.parent, data_root)
    if samples is None:
        samples = web.stored_samples(stored, network.input_shape)
    accuracy = result.get("accuracy", {}).get("engine")
    target.parent.mkdir(parents=True, exist_ok=True)
    sizes = web.write_page(network, target, samples, accuracy=accuracy, test_samples=result.get("test_samples"))
    return sizes, samples.origin if len(samples.inputs) else "none"


def _result(path: Path, artifact_bytes: int) -> dict[str, Any]:
    """result.json beside the artifact; empty where there is none, or one of another artifact."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) and result.get("artifact_bytes") == artifact_bytes else {}


def _test_samples(
    result: dict[str, Any], shape: tuple[int, ...], folder: Path, data_root: Path | None
) -> web.PageSamples | None:
    choice = result.get("config", {}).get("data")
    if choice is None:
        if data_root is not None:
            raise BitspikeError(
                f"--data-root is {data_root}, but no result.json in {folder} says which data it should hold"
            )
        return None
    for root in [data_root] if data_root is not None else _roots(choice, folder):
        try:
            test = data.load(choice["name"], root, **choice.get("options", {})).test
        except BitspikeError:
            if data_root is not None:
                raise
            continue
        if len(test) and test.inputs.shape[1:] == shape:
            return web.first_of_each_class(test.inputs, test.labels)
    return None


def _roots(choice: dict[str, Any], folder: Path) -> list[Path]:
    """Where the data may lie already. With a root, nothing is downloaded; sets that ship with a package ignore it, which
    the run's own folder, always there, is for."""
    import pooch

    named = [choice.get("root"), os.environ.get(ENVIRONMENT_ROOT), pooch.os_cache("bitspike")]
    return [path for path in [*(Path(n) for n in named if n), folder] if path.is_dir()]
