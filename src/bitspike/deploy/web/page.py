"""One self-contained HTML page: the network as WebAssembly, an input to draw or load, spikes, answer and time."""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ... import engine
from .. import ir
from ..artifact import crc32c
from .build import compile_wasm
from .samples import PageSamples, drawing_hints

__all__ = ["render_page", "write_page"]

SCRIPTS = ("network.js", "input.js", "view.js", "main.js")  # one module, in this order


def write_page(
    network: engine.Network,
    path: str | os.PathLike[str],
    samples: PageSamples | None = None,
    *,
    accuracy: float | None = None,
    test_samples: int | None = None,
) -> dict[str, int]:
    """Write the page of ``network`` to ``path``, atomically; returns {"page_bytes", "wasm_bytes"}.

    ``accuracy`` (0 to 1, of ``test_samples``) is shown as given. BitspikeError where clang or wasm-ld is missing.
    """
    wasm = compile_wasm(network.graph(), None if samples is None else samples.inputs)
    text = render_page(network, wasm, samples, accuracy=accuracy, test_samples=test_samples)
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)
    return {"page_bytes": target.stat().st_size, "wasm_bytes": len(wasm)}


def render_page(
    network: engine.Network,
    wasm: bytes,
    samples: PageSamples | None = None,
    *,
    accuracy: float | None = None,
    test_samples: int | None = None,
) -> str:
    """The page as HTML text; ``wasm`` is what :func:`compile_wasm` made of the network's graph."""
    from jinja2 import Environment

    graph = network.graph()
    meta = network.meta
    folder = files(__package__) / "templates"
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    data = _data(network, graph, samples) | {"wasm": base64.b64encode(wasm).decode()}
    return template.render(
        data_name=_text(meta.get("data")),
        method=_text(meta.get("method")),
        accuracy=accuracy if accuracy is not None else _share(meta.get("accuracy")),
        test_samples=test_samples,
        classes=network.num_classes,
        time_steps=graph.time_steps,
        shape=network.input_shape,
        weights=_most_common_bits(graph, ir.Conv | ir.Linear | ir.Readout),
        membranes=_most_common_bits(graph, ir.Lif),
        artifact_size=_size(network.artifact_bytes),
        wasm_size=_size(len(wasm)),
        drawable=graph.input.channels in (1, 3),
        colour=graph.input.channels == 3,
        origin=samples.origin if samples is not None and len(samples.inputs) else None,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script="\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
        # "<" could end the script element that holds the text
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"),
    )


def _data(network: engine.Network, graph: ir.Graph, samples: PageSamples | None) -> dict[str, Any]:
    """What the page's script reads, but for the program."""
    first = graph.input
    shapes = ir.node_shapes(graph)
    names = network.names
    lifs = [i for i, node in enumerate(graph.nodes) if isinstance(node, ir.Firing)]
    shape = (first.channels, first.height, first.width)
    inputs = np.empty((0, *network.input_shape), np.uint8) if samples is None else samples.inputs
    return {
        "shape": shape,
        "frames": first.frames,
        "timeSteps": graph.time_steps,
        "classes": _class_names(network),
        "layers": [{"name": names[i], "shape": shapes[i]} for i in lifs],
        "samples": [] if samples is None else _with_answers(network, samples),
        "drawing": drawing_hints(inputs.reshape(-1, *shape), shape),
    }


def _with_answers(network: engine.Network, samples: PageSamples) -> list[dict[str, Any]]:
    """Each sample with the engine's logits and the CRC-32C of its spikes (as in TESTVEC), which the page checks."""
    rows = []
    for sample, label in zip(samples.inputs, samples.labels, strict=True):
        trace = b"".join(spikes.tobytes() for spikes in network.trace(sample).values())
        rows.append(
            {
                "bytes": base64.b64encode(sample.tobytes()).decode(),
                "label": label,
                "logits": network.run(sample).tolist(),
                "spikes": crc32c(trace),
            }
        )
    return rows


def _class_names(network: engine.Network) -> list[str]:
    names = network.meta.get("classes")
    if isinstance(names, list) and len(names) == network.num_classes:
        return [str(name) for name in names]
    return [f"class {i}" for i in range(network.num_classes)]


def _most_common_bits(graph: ir.Graph, kind: Any) -> int | None:
    """Bits that most weights (of layers) or neurons have."""
    counts: Counter[int] = Counter()
    for node, shape in zip(graph.nodes, ir.node_shapes(graph), strict=True):
        if isinstance(node, ir.Lif) and isinstance(node, kind):
            counts[node.membrane_bits] += int(np.prod(shape))
        elif isinstance(node, ir.Conv | ir.Linear | ir.Readout) and isinstance(node, kind):
            counts[node.bits] += node.weight.size
    return counts.most_common(1)[0][0] if counts else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _share(value: Any) -> float | None:
    return float(value) if isinstance(value, float | int) and 0 <= value <= 1 else None


def _size(value: int) -> str:
    """Bytes in powers of 1000, with three digits."""
    for factor, unit in ((1_000_000, "MB"), (1000, "kB")):
        if value >= factor:
            scaled = value / factor
            return f"{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f}\u00a0{unit}"
    return f"{value}\u00a0B"
