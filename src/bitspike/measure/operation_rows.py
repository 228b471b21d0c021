"""One line of an account of operations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

__all__ = ["LayerOperations"]


@dataclass(frozen=True)
class LayerOperations:
    """Operations of one layer per sample, over all T steps.

    kind: "mac" (u8 input, or a stream that a readout weighs), "ac" (spikes), "shortcut" (spikes added to a current as they
        are), "neuron", or "stream" (``fan_in`` multiplications and additions for each of ``updates`` values).
    rate: spikes per site and step, of the layer's source, or of the neurons themselves; None for the u8 input.
    single_pass: multiply-accumulates of the same layer in a non-spiking network that runs once.
    reads: values read from the source edge; writes: values written to the layer's own edge (neurons only).
    odd: weights are the odd numbers up to 2^bits - 1, which one bit more would hold as they are.
    """

    name: str
    kind: str
    dense: int
    synaptic: float
    single_pass: int
    updates: int
    rate: float | None
    bits: int
    fan_in: int
    weights: int
    steps: int
    reads: int
    writes: int
    odd: bool = False

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
