"""Commands on artifacts: inspect, infer, bench. Only bench needs more than the engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ..errors import BitspikeError, ConfigError
from .output import JSON_OPTION_HELP, note, print_json, print_table

__all__ = ["register"]

File = Annotated[Path, typer.Argument(metavar="FILE.bspk", help="Artifact, as 'train', 'demo' or 'export' wrote it.")]
Json = Annotated[bool, typer.Option("--json", help=JSON_OPTION_HELP)]
Level = Annotated[str | None, typer.Option(help="Kernel level: portable, avx2 or avx512 (default: the fastest here).")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (inspect, infer, bench):
        app.command()(command)


def inspect(
    file: File,
    level: Level = None,
    autotune: Annotated[
        bool, typer.Option("--autotune", help="Choose kernels by timing them here, instead of by an estimate.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Verify an artifact, self-test it, show its layers, the kernels that were chosen and the time each takes."""
    from .. import engine

    kernels = engine.autotune(file, level=level) if autotune else None
    network = engine.load(file, level=level, kernels=kernels)
    checked = network.self_test()
    rates = network.graph().rates or [float("nan")] * len(network.names)
    seconds = network.profile(network.example())
    layers = [
        _layer(*row) | {"kernels": network.kernels.get(row[0], "-"), "microseconds": round(1e6 * seconds[row[0]], 1)}
        for row in zip(network.names, network.nodes, rates, strict=True)
    ]
    facts = {
        "file": str(file),
        "bytes": network.artifact_bytes,
        "memory_bytes": network.memory_bytes,
        "time_steps": network.time_steps,
        "input_shape": list(network.input_shape),
        "classes": network.num_classes,
        "level": network.level,
        "self_test_vectors": checked,
        "meta": {key: value for key, value in network.meta.items() if key != "names"},
    }
    if as_json:
        print_json(facts | {"layers": layers})
        return
    title = (
        f"{file}: {network.artifact_bytes} bytes, T = {network.time_steps}, input {'x'.join(map(str, network.input_shape))} u8, "
        f"{network.num_classes} classes, {checked} self-test vectors pass at level {network.level}"
    )
    header = ("layer", "operation", "shape", "bits", "weights", "16-bit channels", "firing", "kernels", "µs")
    print_table(title, header, [tuple(layer.values()) for layer in layers])


def infer(
    file: File,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", help=".npy arrays of uint8 samples, or images (png, jpg) of the network's size."
        ),
    ],
    level: Level = None,
    as_json: Json = False,
) -> None:
    """Classify samples with the native engine."""
    from .. import engine

    network = engine.load(file, level=level)
    classes = network.meta.get("classes")
    answers = []
    for path in inputs:
        samples = _read_samples(path, network.input_shape)
        for position, logits in enumerate(network.run(samples)):
            best = int(logits.argmax())
            answers.append(
                {
                    "input": str(path),
                    "sample": position,
                    "class": best,
                    "name": str(classes[best])
                    if isinstance(classes, list) and len(classes) == len(logits)
                    else str(best),
                    "logits": logits.tolist(),
                }
            )
    if as_json:
        print_json({"artifact": str(file), "answers": answers})
        return
    rows = [(a["input"], a["sample"], a["class"], a["name"], " ".join(map(str, a["logits"]))) for a in answers]
    print_table(str(file), ("input", "sample", "class", "name", "logits"), rows)


def bench(
    file: File,
    against: Annotated[
        str | None,
        typer.Option(
            help="Rivals, separated by commas: torch, compile, ort, openvino (default: all installed, no compile)."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Samples per call.")] = 1,
    threads: Annotated[
        int, typer.Option(help="Threads of every runtime; one is timed by CPU time, more by wall time.")
    ] = 1,
    seconds: Annotated[float, typer.Option(help="Time budget of the measurement.")] = 10.0,
    samples: Annotated[Path | None, typer.Option(help="Real samples, as for 'infer' (default: random bytes).")] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a page with a picture: FILE.html.")] = None,
    as_json: Json = False,
) -> None:
    """Latency and memory of an artifact beside its rivals, as a table and a picture.

    torch, torch.compile, ONNX Runtime and OpenVINO (fp32 and int8) run the same integers as floats, in the same run.
    """
    from .. import engine, measure

    rivals = measure.check_rivals(None if against is None else [name for name in against.split(",") if name])
    if batch < 1 or threads < 1 or not seconds > 0:
        raise ConfigError(f"--batch {batch}, --threads {threads} and --seconds {seconds} must be positive")
    if report is not None and not report.absolute().parent.is_dir():
        raise ConfigError(f"--report {report}: the folder {report.absolute().parent} does not exist")
    network = engine.load(file)
    if samples is not None:
        pixels = _read_samples(samples, network.input_shape)
    else:
        note("no --samples given: random bytes are measured, and calibrate the int8 rivals")
        pixels = np.random.default_rng(0).integers(0, 256, (max(batch, 16), *network.input_shape)).astype(np.uint8)
    rows = measure.measure_latency(file, pixels, batch=batch, threads=threads, budget_s=seconds, against=rivals)
    memory = measure.peak_memory(file, pixels, batch=batch, against=rivals)
    if report is not None:
        measure.write_report(_bench_page(file, rows, memory), report)
        note(f"report: {report}")
    peaks = {row.name: row.peak_bytes for row in memory}
    peaks |= {row.name: peaks["bitspike"] for row in rows if row.runtime == "bitspike"}  # levels share their memory
    if as_json:
        found = [row.as_dict() | {"peak_bytes": peaks.get(row.name)} for row in rows]
        print_json({"artifact": str(file), "batch": batch, "threads": threads, "rows": found})
        return
    header = ("runtime", "median", "times bitspike", "file", "peak memory", "same answers")
    cells = [
        (
            f"{row.name}, {row.setting}" if row.setting else row.name,
            f"{1e3 * row.median_s:.3f} ms",
            f"{row.ratio:.1f}x",
            f"{row.file_bytes / 1e3:.1f} kB" if row.file_bytes is not None else "",
            f"{peaks[row.name] / 1e6:.0f} MB" if row.name in peaks else "",
            f"{100 * row.agreement:.1f} %",
        )
        for row in rows
    ]
    turned = f"{rows[0].rounds} samples" + (f", {rows[0].dropped} disturbed ones dropped" if rows[0].dropped else "")
    plural = "s" if threads > 1 else ""
    print_table(f"{file}: batch {batch}, {threads} thread{plural}, {rows[0].clock}, {turned}", header, cells)


def _bench_page(file: Path, rows: list[Any], memory: list[Any]) -> dict[str, Any]:
    """What the report shows of one measurement."""
    from .. import measure

    return {
        "title": f"{file.name}: latency",
        "artifact_bytes": file.stat().st_size,
        "latency": [row.as_dict() for row in rows],
        "latency_note": measure.missing_note(),
        "memory": [row.as_dict() for row in memory],
        "command": "bitspike " + " ".join(sys.argv[1:]),
        "environment": measure.environment(),
    }


def _layer(name: str, node: dict[str, Any], rate: float) -> dict[str, object]:
    weight, bits, narrow = node.get("weight"), node.get("bits", node.get("membrane_bits")), node.get("fits_int16")
    return {
        "layer": name,
        "operation": node["op"],
        "shape": "x".join(map(str, node["shape"])),
        "bits": bits or "",
        "weights": int(weight.size) if weight is not None else "",
        "int16_channels": f"{int(np.sum(narrow))}/{len(narrow)}" if narrow is not None else "",
        "firing_rate": f"{100 * rate:.1f} %" if np.isfinite(rate) else "",
    }


def _read_samples(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 samples (N, *shape) from a .npy file or an image. BitspikeError names the file and what fits."""
    try:
        if path.suffix.lower() == ".npy":
            samples = np.load(path, allow_pickle=False)
        else:
            samples = _read_image(path, shape)
    except (OSError, ValueError, EOFError) as error:
        raise BitspikeError(f"{path} cannot be read: {error}") from None
    if samples.dtype != np.uint8:
        raise BitspikeError(f"{path} holds {samples.dtype}, accepted: uint8")
    if samples.shape == shape:
        samples = samples[None]
    if samples.ndim != len(shape) + 1 or samples.shape[1:] != shape:
        raise BitspikeError(f"{path} has shape {samples.shape}, accepted: {shape} or (N, {', '.join(map(str, shape))})")
    return samples


def _read_image(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    from PIL import Image

    if len(shape) != 3 or shape[0] not in (1, 3):
        raise BitspikeError(f"{path}: the network takes {shape}, which is no image; pass a .npy array")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L" if shape[0] == 1 else "RGB"), np.uint8)
    return pixels[None] if shape[0] == 1 else np.moveaxis(pixels, -1, 0)
