"""Commands on runs: train, eval, export, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from .export import TARGETS, Request
from .export import write as write_export
from .output import JSON_OPTION_HELP, note, print_json, print_table

__all__ = ["figures", "register", "set_threads", "show_result"]

EXPORT_TARGETS = tuple(TARGETS)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, as 'train' or 'demo' made it.")]
Json = Annotated[bool, typer.Option("--json", help=JSON_OPTION_HELP)]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one setting, e.g. train.epochs=5; may be repeated. Values are JSON."
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data set's official files. Without it: $BITSPIKE_DATA, then a download with checksums."
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/RECIPE-DATA-seedN).")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the folder after an interruption.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and augmentation.")]
Threads = Annotated[int, typer.Option(help="CPU threads (0: as many as torch chooses).")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (train, evaluate, export, report):
        app.command(name={"evaluate": "eval"}.get(command.__name__, command.__name__))(command)


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Published system, e.g. q-snn; see 'bitspike list recipes'.")
    ],
    data: Annotated[str | None, typer.Option(help="Data set; a configuration of this name is shipped for it.")] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Another shipped configuration ('bitspike list configs'), or your own .json file."),
    ] = None,
    data_root: Root = None,
    out: Out = None,
    settings: Settings = [],  # noqa: B006 - typer needs a list
    seed: Seed = 0,
    resume: Resume = False,
    threads: Threads = 0,
    accelerator: Annotated[str, typer.Option(help="Lightning Fabric accelerator: auto, cpu, cuda, ...")] = "auto",
    devices: Annotated[int, typer.Option(help="Devices or processes per machine; start several with torchrun.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines; start each with torchrun.")] = 1,
    convolutions: Annotated[
        str | None,
        typer.Option(
            help="torch, or winograd: training steps in fewer multiplications on a CPU, equal up to rounding."
        ),
    ] = None,
    keep_freed_memory: Annotated[
        bool,
        typer.Option("--keep-freed-memory", help="Keep what tensors free for the next step: faster, more memory."),
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard scalars.")] = False,
    as_json: Json = False,
) -> None:
    """Train a published system, ship it and measure it.

    Real data in, an artifact and every figure out: writes config.json, checkpoints, model.bspk, result.json and
    report.html to the run's folder.
    """
    from .. import recipes

    found = recipes.get_recipe(recipe)
    name = config or data
    if name is None:
        raise ConfigError(
            f"give --data or --config; shipped for {recipe}: {', '.join(recipes.shipped_configs(recipe))}"
        )
    values = [
        f"seed={seed}",
        f"runtime.accelerator={accelerator}",
        f"runtime.devices={devices}",
        f"runtime.nodes={nodes}",
        *([] if convolutions is None else [f"runtime.convolutions={convolutions}"]),
        *(["runtime.keep_freed_memory=true"] if keep_freed_memory else []),
    ]
    loaded = recipes.load_config(recipe, name, [*values, *settings])
    if data is not None and loaded.data.name != data:
        loaded = dataclasses.replace(loaded, data=dataclasses.replace(loaded.data, name=data))
    loaded = recipes.setup.with_root(loaded, data_root)
    set_threads(threads)
    directory = out or recipes.registry.default_directory(recipe, name.removesuffix(".json").replace("/", "-"), seed)
    result = found.run(loaded, directory, resume=resume, tensorboard=tensorboard)
    if result:
        show_result(result, directory, as_json)


def evaluate(
    run: Run,
    split: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    data_root: Root = None,
    as_json: Json = False,
) -> None:
    """Accuracy of a run, by torch and by the native engine.

    The exact torch forward of the trained weights, and the engine on the shipped file.
    """
    from .. import engine, learn, recipes

    if split not in ("validation", "test"):
        raise ConfigError(f"--split is {split!r}, accepted: validation, test")
    _, _, bundle, exact = recipes.restore(run, data_root)
    part = getattr(bundle, split)
    torch_side = learn.evaluate(exact, part)
    network = engine.load(recipes.RunDirectory(run).artifact)
    accuracy = float((network.run(part.inputs).argmax(-1) == part.labels).mean())
    if as_json:
        print_json({"split": split, "samples": len(part), "accuracy": torch_side.accuracy, "accuracy_engine": accuracy})
        return
    rows = [
        ("torch, exact mode", f"{100 * torch_side.accuracy:.2f} %"),
        (f"engine ({network.level})", f"{100 * accuracy:.2f} %"),
    ]
    print_table(f"{run}: {len(part)} {split} samples", ("computed by", "accuracy"), rows)


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a finished run; a .bspk file for all formats but bspk.")
    ],
    to: Annotated[str, typer.Option(help=f"Format: {', '.join(EXPORT_TARGETS)}.")] = "bspk",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="bspk, web: file to write (default: RUN.bspk, RUN.html). Others: folder (default: here).",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="c99: name of the files and prefix of all they define (default: from RUN).")
    ] = None,
    flash_budget: Annotated[
        int | None, typer.Option(help="c99: refuse to write when constant tables take more bytes.")
    ] = None,
    ram_budget: Annotated[int | None, typer.Option(help="c99: refuse when static buffers take more bytes.")] = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="c99: keep membranes between calls, one call per time step.")
    ] = False,
    data_root: Root = None,
) -> None:
    """Write a run's network for where it is to run.

    bspk: the deployable file, from the run's weights. c99: one .c/.h pair for microcontrollers, from the deployable file;
    prints what it takes of flash and RAM first. See docs/c99.md. web: one HTML page that runs it in a browser, offline; needs
    clang and lld. See docs/web.md.
    """
    write_export(to, Request(run, output, name, flash_budget, ram_budget, streaming, data_root))


def report(
    run: Run,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="HTML file (default: RUN/report.html).")] = None,
) -> None:
    """Write a run's HTML report from its figures."""
    from .. import measure, recipes

    folder = recipes.RunDirectory(run)
    target = output or folder.report
    measure.write_report(folder.read_result(), target)
    print(target)


def show_result(result: dict[str, Any], directory: Path, as_json: bool) -> None:
    """The summary table of a finished run (on stderr when stdout is to end in JSON)."""
    rows = figures(result, directory)
    if not as_json:
        print_table(result["title"], ("figure", "value"), rows)
        return
    for name, value in rows:
        note(f"{name}: {value}")
    print_json(summary(result, directory))


def figures(result: dict[str, Any], directory: Path) -> list[tuple[str, str]]:
    """What a reader wants to know of a finished run, as (figure, value)."""
    accuracy = result["accuracy"]
    rows = [(f"test accuracy, {name}", f"{100 * value:.2f} %") for name, value in accuracy.items()]
    if "artifact_bytes" not in result:
        return [*rows, ("artifact", "none, the configuration has no exact stage"), *_ending(result, directory)]
    compared = sum(row["spikes"] + row["logits"] for row in result["agreement"])
    rows += [
        ("artifact", f"{result['artifact_bytes']:,} bytes ({result['size']['fp32_bytes']:,} in 32-bit floats)"),
        ("differing bits", f"{result['differing_bits']} of {compared:,} spikes and logits"),
    ]
    if "sparse" in result:
        sparse = result["sparse"]
        share = f"{100 * sparse['zeros'] / sparse['weights']:.1f} % of {sparse['weights']:,}"
        rows.append(
            ("zero weights", f"{share}; a sparse file could hold them in {sparse['smallest_bytes']:,.0f} bytes")
        )
    rows += _speed(result.get("latency", []))
    return [*rows, *_ending(result, directory)]


def _ending(result: dict[str, Any], directory: Path) -> list[tuple[str, str]]:
    return [("time", f"{result['seconds']:.0f} s"), ("report", str(directory / "report.html"))]


def _speed(latency: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The engine's time for one sample, and how many times longer the rivals take."""
    single = [row for row in latency if row["batch"] == 1]
    if not single:
        return []
    own = min((row for row in single if row["runtime"] == "bitspike"), key=lambda row: row["median_s"])
    rows = [(f"one sample, {own['name']}", f"{1e6 * own['median_s']:.1f} µs, one thread")]
    for row in single:
        if row["runtime"] != "bitspike":
            rows.append((f"one sample, {row['name']}", f"{row['ratio']:.1f} times that"))
    return rows


def summary(result: dict[str, Any], directory: Path) -> dict[str, Any]:
    """What scripts read of a run; what needs an artifact is None where there is none."""
    accuracy = result["accuracy"]
    return {
        "accuracy": accuracy.get("engine"),
        "accuracy_full_precision": accuracy.get("full precision"),
        "accuracy_quantized": accuracy.get("quantized"),
        "accuracy_of": accuracy,
        "artifact_bytes": result.get("artifact_bytes"),
        "differing_bits": result.get("differing_bits"),
        "seconds": round(result["seconds"], 1),
        "artifact": str(directory / "model.bspk") if "artifact_bytes" in result else None,
        "report": str(directory / "report.html"),
    }


def set_threads(threads: int) -> None:
    import torch

    if threads < 0:
        raise ConfigError(f"--threads is {threads}, accepted: 0 or more")
    if threads:
        torch.set_num_threads(threads)
