"""What a loaded artifact holds, as numpy arrays: node descriptions, and the graph that was written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArtifactError

if TYPE_CHECKING:
    from ..deploy import ir

__all__ = ["build_graph", "describe", "parse_meta"]

REDUCE_AXES = ("channels", "tokens", "both")  # option 1, 2, 3 of a Reduce
TRANSPOSES = ("none", "left", "right")  # option 0, 1, 2 of a MatMul


def parse_meta(body: bytes | None) -> dict[str, Any]:
    """The META section as a dict; ArtifactError if it is not one JSON object in UTF-8."""
    if body is None:
        return {}
    try:
        meta = json.loads(body.decode("utf-8"))
    except RecursionError:
        raise ArtifactError("META: JSON is nested too deeply") from None
    except ValueError as error:  # bad UTF-8, bad JSON, numbers of absurd length
        raise ArtifactError(f"META: not JSON in UTF-8 ({error})") from None
    if not isinstance(meta, dict):
        raise ArtifactError(f"META: JSON of type {type(meta).__name__}, accepted: an object")
    return meta


def describe(raw: dict[str, Any], source_shapes: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Fields of one node as in ``deploy.ir``, plus op, sources, kind (of its edge) and shape (C, H, W)."""
    op, (m, _, _) = raw["op"], raw["shape"]
    params = [np.frombuffer(p, np.int32).copy() for p in raw["params"]]
    node: dict[str, Any] = {"op": op, "kind": raw["kind"], "sources": raw["sources"], "shape": raw["shape"]}
    if raw["weights"] is not None:
        weight: ir.Weight = np.frombuffer(raw["weights"], np.int8).copy()
        if raw["odd"] and raw["bits"] == 8:  # beyond 8 bits: handed over as v where the weight is 2 v + 1
            weight = 2 * weight.astype(np.int16) + 1
        shape = (m, source_shapes[0][0] // raw["groups"], *raw["kernel"]) if op == "Conv" else (m, -1)
        node |= {"weight": weight.reshape(shape), "bits": raw["bits"], "odd": raw["odd"]}
    match op:
        case "Input":
            node |= {"frames": raw["option"], "zero_point": params[0]}
        case "Conv":
            node |= {"stride": raw["stride"], "padding": raw["padding"], "groups": raw["groups"]}
        case "Lif":
            *multipliers, bias, threshold, shift = params
            node |= {"multiplier": np.stack(multipliers), "bias": bias, "threshold": threshold}
            node |= {"membrane_shift": shift.astype(np.uint8), "membrane_bits": raw["bits"]}
            node |= {"leak_shift": raw["option"], "soft_reset": raw["soft_reset"]}
            node["fits_int16"] = np.frombuffer(raw["fits_int16"], np.bool_).copy()
        case "Stream":
            *multipliers, bias, shift = params
            steps = raw["option"]
            node |= {"multiplier": np.stack(multipliers).reshape(-1, steps, m), "bias": bias, "bits": raw["bits"]}
            node |= {"shift": shift.astype(np.uint8)}
        case "Mix":
            weight, threshold = params
            node |= {"weight": weight.reshape(len(threshold), -1), "threshold": threshold}
        case "Attention":
            node |= {"heads": raw["groups"]}
        case "Reduce":
            node |= {"heads": raw["groups"], "axis": REDUCE_AXES[raw["option"] - 1]}
        case "MatMul":
            node |= {"heads": raw["groups"], "transpose": TRANSPOSES[raw["option"]]}
        case "OrPool" | "SumPool" | "MaxPool":
            node |= {"kernel": raw["kernel"][0], "stride": raw["stride"], "padding": raw["padding"]}
        case "Readout":
            node |= {"bias": params[0], "pool": raw["option"] == 1}
    return node


def build_graph(
    time_steps: int, nodes: list[dict[str, Any]], names: list[str], rates: list[float], meta: dict[str, Any]
) -> ir.Graph:
    """The graph whose nodes have been described."""
    from ..deploy import ir  # not needed to run an artifact

    return ir.Graph(time_steps, [_node(node) for node in nodes], names, rates, meta)


def _node(node: dict[str, Any]) -> ir.Node:
    from ..deploy import ir

    def fields(*names: str) -> dict[str, Any]:
        return {name: node[name] for name in names}

    source = node["sources"][0] if node["sources"] else -1
    match node["op"]:
        case "Input":
            channels, height, width = node["shape"]
            return ir.Input(channels, height, width, node["frames"], tuple(int(z) for z in node["zero_point"]))
        case "Conv":
            return ir.Conv(source, **fields("weight", "bits", "stride", "padding", "groups", "odd"))
        case "Linear":
            return ir.Linear(source, **fields("weight", "bits", "odd"))
        case "Lif":
            names = ("multiplier", "bias", "threshold", "membrane_shift", "membrane_bits", "leak_shift", "soft_reset")
            return ir.Lif(node["sources"], **fields(*names))
        case "OrPool":
            return ir.OrPool(source, **fields("kernel", "stride", "padding"))
        case "MaxPool":
            return ir.MaxPool(source, **fields("kernel", "stride", "padding"))
        case "SumPool":
            return ir.SumPool(source, **fields("kernel", "stride"))
        case "Add":
            return ir.Add(*node["sources"])
        case "Gate":
            return ir.Gate(*node["sources"])
        case "Product":
            return ir.Product(*node["sources"])
        case "Attention":
            return ir.Attention(*node["sources"], **fields("heads"))
        case "Stream":
            return ir.Stream(node["sources"], **fields("multiplier", "bias", "shift", "bits"))
        case "Reduce":
            return ir.Reduce(source, **fields("heads", "axis"))
        case "MatMul":
            return ir.MatMul(*node["sources"], **fields("heads", "transpose"))
        case "Concat":
            return ir.Concat(node["sources"])
        case "Mix":
            return ir.Mix(source, **fields("weight", "threshold"))
        case _:
            return ir.Readout(source, **fields("weight", "bias", "bits", "pool", "odd"))
