"""What every recipe ends with: the artifact of an exact model, its proof and all figures."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .. import compress, deploy, engine, learn, measure
from ..data import DataBundle
from ..learn.progress import activity
from .run import RunDirectory
from .setup import RunConfig, build_model, load_data, with_root

__all__ = ["compile_for", "differing_bits", "is_first_process", "keep", "restore", "ship"]

SELF_TEST_BYTES = 4096  # samples stored for the self-test; long frame sequences would outweigh the network
REFERENCE_SAMPLES = 1000  # the numpy reference is slow; torch and every engine level see the whole test set

History = Mapping[str, Sequence[dict[str, float]]]


def ship(
    folder: RunDirectory,
    recipe: str,
    config: RunConfig,
    bundle: DataBundle,
    exact: deploy.exact.ExactModel,
    trained: Mapping[str, nn.Module],
    history: History,
    *,
    methods: Sequence[compress.CompressionConfig],
    latency_budget_s: float,
) -> dict[str, Any]:
    """Write weights, artifact and figures of a finished training into ``folder``; returns the figures.

    trained: networks along the way whose test accuracy is reported, by name; methods: what rebuilds the model whose
    weights are saved. The test set is read here and nowhere else.
    """
    exact = exact.cpu().eval()
    learn.save_weights(folder.weights, exact.source)
    folder.write_methods(methods)
    compile_for(exact, recipe, config, bundle).save(folder.artifact)
    test = bundle.test
    accuracy = {name: learn.evaluate(model, test).accuracy for name, model in trained.items()}
    accuracy["exact"] = learn.evaluate(exact, test).accuracy
    network = engine.load(folder.artifact)
    accuracy["engine"] = float((network.run(test.inputs).argmax(-1) == test.labels).mean())
    with activity(f"measuring; comparing every spike of {len(test):,} test samples on every executor"):
        figures = measure.measure_all(
            folder.artifact,
            exact,
            test.inputs,
            test.labels,
            latency_budget_s=latency_budget_s,
            reference_samples=REFERENCE_SAMPLES,
        )
    sparse = measure.sparse_size(exact.source)
    if any(row.pays for row in sparse.rows):
        figures["sparse"] = sparse.as_dict()
    figures["artifact_bytes"] = folder.artifact.stat().st_size
    figures["differing_bits"] = differing_bits(figures["agreement"])
    return _told(recipe, config, bundle, accuracy, history) | figures


def keep(
    folder: RunDirectory,
    recipe: str,
    config: RunConfig,
    bundle: DataBundle,
    final: nn.Module,
    trained: Mapping[str, nn.Module],
    history: History,
) -> dict[str, Any]:
    """What :func:`ship` does, for a network that is not deployed: weights, accuracies, firing rates; no artifact."""
    final = final.cpu().eval()
    learn.save_weights(folder.weights, final)
    folder.write_methods(compress.applied(final))
    evaluations = {name: learn.evaluate(model, bundle.test) for name, model in trained.items()}
    accuracy = {name: found.accuracy for name, found in evaluations.items()}
    figures = {
        "firing_rates": {name: found.layer_rates for name, found in evaluations.items()},
        "size": measure.model_size(final).as_dict(),
        "environment": measure.environment(),
    }
    figures |= measure.network_pictures(final, bundle.test.inputs, bundle.test.labels)
    return _told(recipe, config, bundle, accuracy, history) | figures


def _told(
    recipe: str, config: RunConfig, bundle: DataBundle, accuracy: dict[str, float], history: History
) -> dict[str, Any]:
    """What is known of a run without its artifact."""
    return {
        "title": f"{recipe} on {config.data.name}",
        "method": recipe,
        "data": config.data.name,
        "seed": config.seed,
        "accuracy": accuracy,
        "validation_accuracy": {n: records[-1].get("validation_accuracy") for n, records in history.items() if records},
        "test_samples": len(bundle.test),
        "train_seconds": {name: sum(r["seconds"] for r in records) for name, records in history.items()},
        "history": dict(history),
        "classes": list(bundle.spec.classes),
        "config": json.loads(json.dumps(dataclasses.asdict(config))),  # type: ignore[call-overload]
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def compile_for(exact: deploy.exact.ExactModel, recipe: str, config: RunConfig, bundle: DataBundle) -> deploy.Artifact:
    """Lower, with validation samples as calibration and self-test, and what a user of the file wants to know."""
    spec = bundle.spec
    meta = {
        "method": recipe,
        "data": spec.name,
        "classes": list(spec.classes),
        "model": config.model,
        "seed": config.seed,
    }
    samples = bundle.validation.inputs if len(bundle.validation) else bundle.train.inputs
    stored = min(2, SELF_TEST_BYTES // samples[0].nbytes)
    return deploy.compile(exact, np.ascontiguousarray(samples[:64]), meta=meta, test_vectors=stored)


def restore(
    directory: Path, data_root: Path | None = None
) -> tuple[str, RunConfig, DataBundle, deploy.exact.ExactModel]:
    """Recipe name, configuration, data (from ``data_root`` if the files have moved) and exact model of a finished run."""
    folder = RunDirectory(directory)
    recipe, config = folder.config()
    config = with_root(config, data_root)
    bundle = load_data(config)
    model = build_model(config, bundle.spec, folder.read_methods())
    learn.load_weights(folder.weights, model)
    return recipe, config, bundle, deploy.exact_model(model).eval()


def differing_bits(agreement: list[dict[str, Any]]) -> int:
    """Spikes and logits that differ anywhere in the agreement table."""
    return sum(int(row["differing_spikes"]) + int(row["differing_logits"]) for row in agreement)


def is_first_process() -> bool:
    """True in a single process and on rank 0 of several (from torchrun's environment, known before any group is)."""
    return int(os.environ.get("RANK", "0")) == 0
