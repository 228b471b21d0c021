"""The report of a run: one self-contained HTML file, nothing loaded from elsewhere.

``write_report(result, path)`` takes plain JSON values. Every key is optional; a section without its key is left out.

    title, method, data, command, created: text          seed: int        test_samples: int
    accuracy          {label: value in 0..1}, in the order of the work; "engine" is the shipped one
    validation_accuracy {stage: value in 0..1}
    history           {stage: [{epoch, loss, accuracy, validation_loss, validation_accuracy, firing_rate, seconds, ...}]}
    classes           [name of class 0, ...]
    allocation        {measure, quantizer, samples, forward_passes, seconds, unit: "bytes" or "seconds", fixed, layers:
                      [{name, bits, cost, sensitivity}], chosen: {cost, predicted, accuracy or null}, front: [same]}
    sparse            {rule, weights, zeros, dense_bytes, smallest_bytes, rows: [{name, weights, zeros, bytes, pays}]}
    artifact          {bytes, sections: {name: bytes}, memory_bytes, level, time_steps, input_shape}
    artifact_bytes    int, where there is no "artifact"
    size              {rule, parameters, bytes, fp32_bytes, rows: [{name, kind, parameters, bits, bytes}]}
    operations        [{name, kind, dense, synaptic, single_pass, updates, rate, bits, fan_in, weights, steps, reads,
                      writes}] with kind mac, ac, shortcut, neuron or stream;   operation_samples: int
    energy            [{model, technology, source, assumption, network, compute_j, memory_j, total_j}]
    latency           [{name, runtime, batch, threads, clock, rounds, median_s, minimum_s, maximum_s, dropped, ratio,
                      setting, file_bytes or null, agreement, compared}];   latency_note: text
    memory            [{name, batch, peak_bytes}]
    agreement         [{left, right, samples, spikes, differing_spikes, logits, differing_logits}]
    raster            {sample, time_steps, prediction, label or null, layers: [{name, neurons, shown, rate, spikes}]}
    attention         [{name, kind: "pairs", "tokens" or "channels", grid: [height, width], heads, maps: [[0..1, ...] of a
                      head], and for pairs query, of_query: as maps}], with an input_image
    input_image       [[grey or [r, g, b], ...], ...], 0..255
    config            {key: JSON value}
    environment       {key: text, number or list}

``measure_all`` fills everything from artifact to environment; ``network_pictures`` raster, attention and input_image of a
network that has no artifact.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from . import plots, units
from .allocation import allocation_figure
from .attention_figure import attention_figure, attention_notes

__all__ = ["render_report", "write_report"]


def write_report(result: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the report of ``result`` (see the module's text) to ``path``, atomically."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(render_report(result), encoding="utf-8")
    os.replace(partial, target)


def render_report(result: Mapping[str, Any]) -> str:
    """The report as HTML text."""
    from jinja2 import Environment

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {name: getattr(units, name) for name in units.__all__}
    source = (files(__package__) / "templates" / "report.html.j2").read_text(encoding="utf-8")
    template = page.from_string(source)
    config = result.get("config")
    return template.render(
        r=result,
        headline=headline(result),
        facts=key_figures(result),
        figures=_figures(result),
        config=json.dumps(config, indent=2, ensure_ascii=False) if config else None,
        energy=_energy_models(result),
        image=plots.image_data_uri(result["input_image"]) if result.get("input_image") else None,
        sample=_sample_text(result),
        attention_notes=attention_notes(result.get("attention") or []),
        memory={row["name"]: row["peak_bytes"] for row in result.get("memory", [])},
    )


def headline(result: Mapping[str, Any]) -> str:
    """One sentence with what the run gave; parts that were not measured are left out."""
    accuracy, size, latency, compared = _accuracy(result), _artifact_bytes(result), _latency(result), _compared(result)
    parts = []
    if accuracy is not None:
        count = f" of {units.whole(result['test_samples'])} test samples" if result.get("test_samples") else ""
        parts.append(f"classifies {units.percent(accuracy[1])}{count} correctly")
    if latency is not None:
        parts.append(f"takes {units.seconds(latency['median_s'])} per inference on {_on_threads(latency)}")
    if compared is not None:
        differing, total = compared
        equal = f"equals {_measured_against(result)} in all {units.whole(total)} spikes and logits that were compared"
        parts.append(
            equal if not differing else f"differs in {units.whole(differing)} of {units.whole(total)} spikes and logits"
        )
    if not parts:
        return ""
    subject = f"The artifact of {units.size(size)}" if size is not None else "The network"
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{subject} {listed}."


def key_figures(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(number with unit, what it is) for the top of the page."""
    facts = []
    accuracy, size, latency, compared = _accuracy(result), _artifact_bytes(result), _latency(result), _compared(result)
    if accuracy is not None:
        facts.append((units.percent(accuracy[1]), f"test accuracy ({accuracy[0]})"))
    if size is not None:
        facts.append((units.size(size), "artifact, everything included"))
    if compared is not None:
        facts.append((f"{units.whole(compared[0])} bits", f"differ, of {units.count(compared[1])} spikes and logits"))
    if latency is not None:
        facts.append((units.seconds(latency["median_s"]), f"per inference, {_on_threads(latency)}"))
    return facts


def _accuracy(result: Mapping[str, Any]) -> tuple[str, float] | None:
    accuracy = result.get("accuracy") or {}
    label = "engine" if "engine" in accuracy else next(reversed(accuracy), None)
    return None if label is None else (label, accuracy[label])


def _artifact_bytes(result: Mapping[str, Any]) -> int | None:
    return (result.get("artifact") or {}).get("bytes", result.get("artifact_bytes"))


def _latency(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    rows = [row for row in result.get("latency", []) if row["runtime"] == "bitspike" and row["batch"] == 1]
    return min(rows, key=lambda row: row["median_s"], default=None)


def _on_threads(row: Mapping[str, Any]) -> str:
    return "one CPU thread" if row["threads"] == 1 else f"{row['threads']} CPU threads"


def _compared(result: Mapping[str, Any]) -> tuple[int, int] | None:
    """(differing, compared) spikes and logits over all rows."""
    rows = result.get("agreement")
    if not rows:
        return None
    differing = sum(row["differing_spikes"] + row["differing_logits"] for row in rows)
    return differing, sum(row["spikes"] + row["logits"] for row in rows)


def _measured_against(result: Mapping[str, Any]) -> str:
    trained = any(row["left"].startswith("torch") for row in result["agreement"])
    return "the trained network" if trained else "the numpy reference"


def _figures(result: Mapping[str, Any]) -> dict[str, str]:
    figures: dict[str, str] = {}
    history = {stage: rows for stage, rows in (result.get("history") or {}).items() if rows}
    if history:
        figures |= _curves(history)
    if result.get("allocation"):
        figures["allocation"] = allocation_figure(result["allocation"])
    synapses = [row for row in result.get("operations", []) if row["kind"] not in ("neuron", "stream")]
    if synapses:
        figures["operations"] = plots.bar_pairs(
            [row["name"] for row in synapses],
            [row["dense"] for row in synapses],
            [row["synaptic"] for row in synapses],
            ("dense", "synaptic"),
            "operations per sample",
            "Dense and synaptic operations per layer",
        )
    neurons = [row for row in result.get("operations", []) if row["kind"] == "neuron"]
    if neurons:
        figures["rates"] = plots.bars(
            [row["name"] for row in neurons],
            [100 * row["rate"] for row in neurons],
            [units.percent(row["rate"], 1) for row in neurons],
            "firing rate (% of neurons per step)",
            "Firing rate per layer",
        )
    for batch in sorted({row["batch"] for row in result.get("latency", [])}):
        figures[f"latency {batch}"] = _latency_bars(result["latency"], batch)
    spikes = result.get("raster")
    if spikes and spikes.get("layers"):
        figures["raster"] = plots.raster(spikes["layers"], spikes["time_steps"], "Spikes of one sample, layer by layer")
    if result.get("attention") and result.get("input_image"):
        figures["attention"] = attention_figure(
            result["attention"], result["input_image"], "Attention of one sample, layer by layer and head by head"
        )
    return figures


def _curves(history: Mapping[str, list[Mapping[str, float]]]) -> dict[str, str]:
    figures = {}
    for key, scale, ylabel in (("accuracy", 100, "accuracy (%)"), ("loss", 1, "cross-entropy loss (nats)")):
        series = {}
        for stage, rows in history.items():
            for field, name in ((f"validation_{key}", stage), (key, f"{stage} (training)")):
                points = [(r["epoch"], scale * r[field]) for r in rows if r.get(field) is not None]
                if points:
                    series[name] = tuple(zip(*points, strict=True))
        if series:
            figures[key] = plots.curves(series, "epoch of its stage", ylabel, f"{key} per epoch")  # type: ignore[arg-type]
    return figures


def _latency_bars(rows: list[Mapping[str, Any]], batch: int) -> str:
    chosen = sorted((row for row in rows if row["batch"] == batch), key=lambda row: row["median_s"])
    return plots.bars(
        [row["name"] for row in chosen],
        [1e3 * row["median_s"] for row in chosen],
        [f"{units.seconds(row['median_s'])}  ({units.times(row['ratio'])})" for row in chosen],
        f"milliseconds per call, batch {batch} (logarithmic)",
        f"Latency, batch {batch}",
        log=True,
        groups=[0 if row["runtime"] == "bitspike" else 1 for row in chosen],
        ranges=[(1e3 * row["minimum_s"], 1e3 * row["maximum_s"]) for row in chosen if "maximum_s" in row] or None,
    )


def _energy_models(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows grouped by model, in order."""
    models: dict[str, dict[str, Any]] = {}
    for row in result.get("energy", []):
        entry = models.setdefault(
            row["model"], {k: row[k] for k in ("model", "technology", "source", "assumption")} | {"rows": []}
        )
        entry["rows"].append(row)
    return list(models.values())


def _sample_text(result: Mapping[str, Any]) -> str:
    spikes = result.get("raster")
    if not spikes:
        return ""
    names = result.get("classes") or []

    def called(index: int) -> str:
        return f"“{names[index]}”" if index < len(names) else f"class {index}"

    label = "" if spikes.get("label") is None else f", its label is {called(spikes['label'])}"
    return f"Sample {spikes['sample']} of the test data: recognised as {called(spikes['prediction'])}{label}."
