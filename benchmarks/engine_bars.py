"""The bars the engine is held to, judged from a result of ``engine.py``: each with the figure, met or missed.

The worst of the measured batch sizes and shapes counts. A bar whose section or runtime was not measured is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Bar", "bars", "fraction_of_peak", "rival_median"]

TORCH, ORT32, ORT8 = "torch fp32", "ONNX Runtime fp32", "ONNX Runtime int8"
OV8 = "OpenVINO int8"
CONVOLUTIONS = ("32x32x64 3x3", "16x16x128 3x3", "8x8x256 3x3")
LINEAR = ("linear 384-1536, 64 tokens",)
NETWORK_BARS = {
    "bitspike 1-bit": {ORT8: (6.0, 5.0), OV8: (3.0, None), ORT32: (16.0, 14.0), TORCH: (20.0, 17.0)},
    "bitspike 4-bit": {ORT8: (4.5, 3.8), OV8: (2.2, None), ORT32: (12.0, 10.0), TORCH: (15.0, 13.0)},
}
LAYER_FLOORS = (
    (CONVOLUTIONS, "3x3 layers", "bitspike 1-bit", ORT8, 4.5),
    (CONVOLUTIONS, "3x3 layers", "bitspike 1-bit", ORT32, 15.0),
    (CONVOLUTIONS, "3x3 layers", "bitspike 1-bit", TORCH, 15.0),
    (CONVOLUTIONS, "3x3 layers", "bitspike 4-bit", ORT8, 2.8),
    (CONVOLUTIONS, "3x3 layers", "bitspike 4-bit", ORT32, 10.0),
    (CONVOLUTIONS, "3x3 layers", "bitspike 8-bit", ORT8, 1.0),
    (LINEAR, "linear 384-1536", "bitspike 1-bit", ORT8, 4.5),
    (LINEAR, "linear 384-1536", "bitspike 4-bit", ORT8, 3.3),
)
PEAK_BARS = (("bitspike 1-bit", 0.70, 0.55), ("bitspike 4-bit", 0.55, 0.40))
MIXES = {"bitspike 1-bit": ("popcount", 1), "bitspike 4-bit": ("table", 1), "bitspike 8-bit": ("table", 2)}
ATTENTION_FLOOR = 10.0
ONE_PASS = ("one pass, ONNX Runtime int8", "one pass, OpenVINO int8")
ONE_PASS_STEPS = (1, 2)
SPEEDUPS = {1: 1.6, 16: 1.9}
SPEEDUP_FROM_S = 1e-3
FILE_FLOORS = {"bitspike 1-bit": 28.0, "bitspike 4-bit": 7.8}
MEMORY_LIMIT = 16e6


@dataclass(frozen=True)
class Bar:
    """``value`` against ``needed``; ``limit`` bars want at most that much. where: what the value was found at."""

    name: str
    needed: float
    value: float
    unit: str
    where: str
    limit: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.needed if self.limit else self.value >= self.needed


def bars(result: Mapping[str, Any]) -> list[Bar]:
    """Every bar that ``result`` has figures for."""
    makers: list[Callable[[Mapping[str, Any]], Iterator[Bar]]] = [
        _network,
        _one_pass,
        _layers,
        _peaks,
        _attention,
        _threads,
        _files,
        _memory,
    ]
    return [bar for make in makers for bar in make(result)]


def rival_median(times: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    """Median of runtime ``name`` at its fastest setting, None where it was not measured."""
    found = [row["median_s"] for key, row in times.items() if key == name or key.startswith(f"{name}, ")]
    return min(found, default=None)


def fraction_of_peak(group: Mapping[str, Any], name: str) -> float | None:
    """Share of the measured peak of the kernel's instruction mix; weights of more than 5 bits take two tables."""
    mix, passes = MIXES[name]
    if mix not in group["peak"]:
        return None
    return float(group["macs"] / group["layer_s"][name] / (group["peak"][mix] / passes))


def _network(result: Mapping[str, Any]) -> Iterator[Bar]:
    groups = [g for g in result.get("network", []) if g["time_steps"] == 4]
    for name, needs in NETWORK_BARS.items():
        for rival, (target, floor) in needs.items():
            ratios = {f"batch {g['batch']}": _ratio(g["times"], name, rival) for g in groups}
            for needed, kind in ((target, "bar"), (floor, "floor")):
                if needed is not None:
                    yield from _worst(f"network, {_short(name)}, times {rival} ({kind})", needed, ratios)


def _one_pass(result: Mapping[str, Any]) -> Iterator[Bar]:
    for steps in ONE_PASS_STEPS:
        groups = [g for g in result.get("network", []) if g["time_steps"] == steps]
        for rival in ONE_PASS:
            ratios = {f"batch {g['batch']}": _ratio(g["times"], "bitspike 1-bit", rival) for g in groups}
            yield from _worst(f"network, 1-bit, T = {steps}, times {rival}", 1.0, ratios)


def _layers(result: Mapping[str, Any]) -> Iterator[Bar]:
    for names, title, name, rival, floor in LAYER_FLOORS:
        groups = [g for g in result.get("layers", []) if g["layer"] in names]
        ratios = {_place(g): _over(rival_median(g["times"], rival), g["layer_s"].get(name)) for g in groups}
        yield from _worst(f"{title}, {_short(name)}, times {rival} (floor)", floor, ratios)


def _peaks(result: Mapping[str, Any]) -> Iterator[Bar]:
    for name, target, floor in PEAK_BARS:
        groups = [g for g in result.get("layers", []) if g["layer"] in CONVOLUTIONS]
        shares = {_place(g): fraction_of_peak(g, name) for g in groups if name in g["layer_s"]}
        for needed, kind in ((target, "bar"), (floor, "floor")):
            yield from _worst(f"3x3 layers, {_short(name)}, share of peak ({kind})", needed, shares, "share")


def _attention(result: Mapping[str, Any]) -> Iterator[Bar]:
    groups = result.get("attention", [])
    ratios = {f"batch {g['batch']}": _over(rival_median(g["times"], TORCH), g["layer_s"]["bitspike"]) for g in groups}
    yield from _worst(f"spike attention, times {TORCH} (floor)", ATTENTION_FLOOR, ratios)


def _threads(result: Mapping[str, Any]) -> Iterator[Bar]:
    for group in result.get("threads", []):
        needed = SPEEDUPS.get(group["batch"])
        for name in NETWORK_BARS:
            alone = group["times"].get(f"{name}, 1 thread")
            if needed is None or alone is None or (group["batch"] == 1 and alone["median_s"] < SPEEDUP_FROM_S):
                continue
            ratio = alone["median_s"] / group["times"][name]["median_s"]
            yield Bar(f"network, {_short(name)}, 2 threads over 1", needed, ratio, "times", f"batch {group['batch']}")


def _files(result: Mapping[str, Any]) -> Iterator[Bar]:
    for group in result.get("network", [])[:1]:
        for name, floor in FILE_FLOORS.items():
            ratio = _over(group["file_bytes"].get(ORT32), group["file_bytes"].get(name))
            yield from _worst(f"artifact, {_short(name)}, times smaller than ONNX fp32 (floor)", floor, {"": ratio})


def _memory(result: Mapping[str, Any]) -> Iterator[Bar]:
    rows = result.get("memory", [])
    alone = [r["peak_bytes"] for r in rows if r["name"] == "Python and numpy alone"]
    added = {f"{r['bits']}-bit": r["peak_bytes"] - min(alone) for r in rows if r["name"] == "bitspike"}
    if added:
        where = max(added, key=lambda key: added[key])
        yield Bar(
            "peak memory on top of Python and numpy, MB (floor)",
            MEMORY_LIMIT / 1e6,
            added[where] / 1e6,
            "MB",
            where,
            True,
        )


def _ratio(times: Mapping[str, Mapping[str, Any]], name: str, rival: str) -> float | None:
    own = times.get(name)
    return _over(rival_median(times, rival), own["median_s"] if own else None)


def _over(other: float | None, own: float | None) -> float | None:
    return None if other is None or own is None else other / own


def _worst(name: str, needed: float, values: Mapping[str, float | None], unit: str = "times") -> Iterator[Bar]:
    known = {where: value for where, value in values.items() if value is not None}
    if known:
        where = min(known, key=lambda key: known[key])
        yield Bar(name, needed, known[where], unit, where)


def _place(group: Mapping[str, Any]) -> str:
    return f"{group['layer']}, batch {group['batch']}"


def _short(name: str) -> str:
    return name.removeprefix("bitspike ")
