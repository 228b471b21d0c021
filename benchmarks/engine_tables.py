"""Markdown tables of a result of ``engine.py``, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine_bars import bars, fraction_of_peak, rival_median

__all__ = ["TABLES", "differing", "page"]

RUNTIMES = (
    "torch fp32",
    "torch.compile fp32",
    "ONNX Runtime fp32",
    "OpenVINO fp32",
    "OpenVINO bf16",
    "ONNX Runtime int8",
    "OpenVINO int8",
)
ONE_PASS = ("one pass, ONNX Runtime int8", "one pass, OpenVINO int8")
Result = Mapping[str, Any]
Times = Mapping[str, Mapping[str, Any]]


def layer_times(result: Result) -> str:
    """Microseconds of one layer."""
    groups = result["layers"]
    names, rivals = list(groups[0]["layer_s"]), _present(groups, RUNTIMES)
    rows = [
        [
            g["layer"],
            g["batch"],
            *(microseconds(g["layer_s"][name]) for name in names),
            *(microseconds(rival_median(g["times"], rival)) for rival in rivals),
        ]
        for g in groups
    ]
    return markdown(["layer, µs", "batch", *(f"**{name}**" for name in names), *map(_short, rivals)], rows)


def layer_ratios(result: Result) -> str:
    """How many times faster the engine is, and its share of the instruction peak."""
    groups = result["layers"]
    names = list(groups[0]["layer_s"])
    rivals = _present(groups, ("ONNX Runtime int8", "OpenVINO int8", "ONNX Runtime fp32", "torch fp32"))
    rows = [
        [
            f"{g['layer']}, batch {g['batch']}",
            name.removeprefix("bitspike "),
            *(times(rival_median(g["times"], rival), g["layer_s"][name]) for rival in rivals),
            f"{g['macs'] / g['layer_s'][name] / 1e9:.0f}",
            percent(fraction_of_peak(g, name)),
        ]
        for g in groups
        for name in names
    ]
    return markdown(["layer", "weights", *(f"/ {_short(rival)}" for rival in rivals), "GMAC/s", "of peak"], rows)


def network_times(result: Result) -> str:
    """Milliseconds of the whole network."""
    return _network_times(result["network"])


def network_ratios(result: Result) -> str:
    """How many times faster the engine is."""
    groups = result["network"]
    rivals = _present(groups, (*RUNTIMES, *ONE_PASS))
    rows = [
        [
            f"T = {g['time_steps']}, batch {g['batch']}",
            name.removeprefix("bitspike "),
            *(times(rival_median(g["times"], rival), g["times"][name]["median_s"]) for rival in rivals),
        ]
        for g in groups
        for name in _own(g["times"])
    ]
    return markdown(["network", "weights", *(f"/ {_short(rival)}" for rival in rivals)], rows)


def level_table(result: Result) -> str:
    """The network at each kernel level."""
    groups = result["levels"]
    rows = [
        [
            name.removeprefix("bitspike, "),
            *(milliseconds(g["times"][name]["median_s"]) for g in groups),
        ]
        for name in groups[0]["times"]
    ]
    return markdown(["level", *(f"{g['bits']}-bit, ms" for g in groups)], rows)


def sparsity_table(result: Result) -> str:
    """Pruned networks beside the dense one."""
    rows = [
        [
            f"{g['bits']}-bit, batch {g['batch']}",
            percent(float(keep)),
            milliseconds(row["median_s"]),
            percent(row["median_s"] / g["times"]["1.0"]["median_s"]),
            percent(g["macs"][keep] / g["macs"]["1.0"]),
            f"{g['file_bytes'][keep] / 1e3:.0f}",
        ]
        for g in result["sparsity"]
        for keep, row in g["times"].items()
    ]
    return markdown(["network", "channels left", "median, ms", "of dense time", "of dense MACs", "file, kB"], rows)


def attention_table(result: Result) -> str:
    """Spike attention beside torch."""
    rows = [
        [
            f"{g['heads']} heads, {g['tokens']} tokens, {g['dims']} dims, T = {g['time_steps']}",
            g["batch"],
            percent(g["rate"]),
            microseconds(g["layer_s"]["bitspike"]),
            microseconds(rival_median(g["times"], "torch fp32")),
            times(rival_median(g["times"], "torch fp32"), g["layer_s"]["bitspike"]),
        ]
        for g in result["attention"]
    ]
    return markdown(["attention", "batch", "firing", "bitspike, µs", "torch fp32, µs", "times torch"], rows)


def rate_table(result: Result) -> str:
    """One layer at several firing rates."""
    groups = result["rates"]
    names, rivals = list(groups[0]["layer_s"]), _present(groups, RUNTIMES)
    rows = [
        [
            g["layer"],
            percent(g["rate"], 1),
            *(microseconds(g["layer_s"][name]) for name in names),
            *(microseconds(rival_median(g["times"], rival)) for rival in rivals),
        ]
        for g in groups
    ]
    return markdown(["layer, µs", "firing of its source", *names, *map(_short, rivals)], rows)


def thread_table(result: Result) -> str:
    """Wall time on two threads; the engine's speed-up over its own single thread."""
    rows = []
    for g in result["threads"]:
        found = g["times"]
        for name in [*_own(found), *(r for r in (*RUNTIMES, *ONE_PASS) if rival_median(found, r) is not None)]:
            median = rival_median({k: v for k, v in found.items() if "1 thread" not in k}, name)
            row = min(
                (v for k, v in found.items() if k.startswith(name)), key=lambda v: abs(v["median_s"] - (median or 0))
            )
            alone = found.get(f"{name}, 1 thread")
            rows.append(
                [
                    name,
                    g["batch"],
                    milliseconds(median),
                    milliseconds(alone["median_s"]) if alone else "",
                    times(alone["median_s"], median) if alone else "",
                    *(times(median, found[own]["median_s"]) for own in _own(found)),
                    f"{row['rounds']}, {row['dropped']}{' (disturbed)' if row['disturbed'] else ''}",
                ]
            )
    own = [f"times {name}" for name in _own(result["threads"][0]["times"])]
    header = ["runtime", "batch", "2 threads, ms", "1 thread, ms", "speed-up", *own, "samples counted, dropped"]
    return markdown(header, rows)


def memory_table(result: Result) -> str:
    """Peak memory of fresh processes."""
    rows = []
    for row in result["memory"]:
        bits = f", {row['bits']}-bit" if row["name"] == "bitspike" else ""
        rows.append([f"{row['name']}{bits}", f"{row['peak_bytes'] / 1e6:.0f}"])
    unique = list(dict.fromkeys(tuple(row) for row in rows if not row[0].startswith("Python")))
    alone = [row for row in rows if row[0].startswith("Python")][:1]
    return markdown(["process", "peak memory, MB"], [*alone, *unique])


def peak_table(result: Result) -> str:
    """Instruction peaks, the mean of the readings of all groups."""
    groups = result["layers"]
    mixes = groups[0]["peak"]
    rows = [[mix, f"{sum(g['peak'][mix] for g in groups) / len(groups) / 1e9:.0f}"] for mix in mixes]
    return markdown(["instruction mix", "GMAC/s"], rows)


def bar_table(result: Result) -> str:
    """Each bar with the figure that decides it."""
    rows = []
    for bar in bars(result):
        shown = {"times": f"{bar.value:.2f}x", "share": percent(bar.value), "MB": f"{bar.value:.1f}"}[bar.unit]
        needed = {"times": f"{bar.needed:g}x", "share": percent(bar.needed), "MB": f"{bar.needed:g}"}[bar.unit]
        rows.append(
            [
                bar.name,
                f"{'at most ' if bar.limit else ''}{needed}",
                shown,
                bar.where,
                "met" if bar.met else "**missed**",
            ]
        )
    return markdown(["bar", "needed", "measured", "worst at", ""], rows)


def fact_table(result: Result) -> str:
    """What the run was measured on."""
    environment = result["environment"]
    wrong, compared = differing(result)
    load = " -> ".join(f"{load[0]:.2f}" for load in result["load_average"].values())
    versions = [f"{name} {environment[name]}" for name in ("torch", "onnxruntime", "openvino") if name in environment]
    rows = [
        ["processor", f"{environment['processor']}, {environment['cores']} cores"],
        ["system", environment["system"]],
        ["versions", ", ".join(versions)],
        ["load average of one minute, before and after", load],
        ["differing bits", f"{wrong} of {compared:,} spikes and logits"],
        ["command", f"`{result['command'].strip()}`"],
        ["time", f"{result['seconds']:.0f} s"],
    ]
    return markdown(["measured on", ""], rows)


TABLES: dict[str, tuple[str, str, Callable[[Result], str]]] = {
    "facts": ("", "Run", fact_table),
    "layer-times": ("layers", "One layer, T = 4, one thread", layer_times),
    "layer-ratios": ("layers", "One layer, how many times faster", layer_ratios),
    "peak": ("layers", "Peak of the instruction mixes, one thread", peak_table),
    "network-times": ("network", "Whole network, one thread", network_times),
    "network-ratios": ("network", "Whole network, how many times faster", network_ratios),
    "levels": ("levels", "Kernel levels, T = 4, batch 1, one thread", level_table),
    "sparsity": ("sparsity", "Structured sparsity", sparsity_table),
    "attention": ("attention", "Spike attention", attention_table),
    "rates": ("rates", "Firing rates, batch 1", rate_table),
    "threads": ("threads", "Two threads, wall time, T = 4", thread_table),
    "memory": ("memory", "Peak memory, one sample", memory_table),
    "bars": ("", "Bars", bar_table),
}


def fact_table(result: Result) -> str:
    """What the run was measured on."""
    environment = result["environment"]
    wrong, compared = differing(result)
    load = " -> ".join(f"{load[0]:.2f}" for load in result["load_average"].values())
    versions = [f"{name} {environment[name]}" for name in ("torch", "onnxruntime", "openvino") if name in environment]
    rows = [
        ["processor", f"{environment['processor']}, {environment['cores']} cores"],
        ["system", environment["system"]],
        ["versions", ", ".join(versions)],
        ["load average of one minute, before and after", load],
        ["differing bits", f"{wrong} of {compared:,} spikes and logits"],
        ["command", f"`{result['command'].strip()}`"],
        ["time", f"{result['seconds']:.0f} s"],
    ]
    return markdown(["measured on", ""], rows)


def page(result: Result) -> str:
    """Every table that ``result`` has figures for."""
    parts = [f"## {title}\n\n{make(result)}" for need, title, make in TABLES.values() if not need or result.get(need)]
    return "\n\n".join(parts)


def differing(result: Result) -> tuple[int, int]:
    """Spikes and logits that differ, and all that were compared."""
    found = [
        g["agreement"] for section in result.values() if isinstance(section, list) for g in section if "agreement" in g
    ]
    return sum(a["differing"] for a in found), sum(a["compared"] for a in found)


def markdown(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def microseconds(value: float | None) -> str:
    return "" if value is None else f"{1e6 * value:.0f}"


def milliseconds(value: float | None) -> str:
    return "" if value is None else f"{1e3 * value:.3f}"


def times(other: float | None, own: float | None) -> str:
    return "" if other is None or own is None else f"{other / own:.1f}x"


def percent(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{100 * value:.{digits}f} %"


def _network_times(groups: list[Any]) -> str:
    names, rivals = _own(groups[0]["times"]), _present(groups, (*RUNTIMES, *ONE_PASS))
    rows = [
        [
            f"T = {g['time_steps']}",
            g["batch"],
            *(milliseconds(g["times"][name]["median_s"]) for name in names),
            *(milliseconds(rival_median(g["times"], rival)) for rival in rivals),
        ]
        for g in groups
    ]
    return markdown(["network, ms", "batch", *(f"**{name}**" for name in names), *map(_short, rivals)], rows)


def _short(name: str) -> str:
    """Abbreviated for a column."""
    return name.replace("ONNX Runtime", "ORT").replace("OpenVINO", "OV")


def _own(times: Times) -> list[str]:
    return [name for name in times if name.startswith("bitspike") and "thread" not in name]


def _present(groups: list[Any], names: Iterable[str]) -> list[str]:
    return [name for name in names if any(rival_median(g["times"], name) is not None for g in groups)]
