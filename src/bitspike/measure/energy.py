"""Energy per sample by named models: counted operations times published energies, nothing else.

No model here is a measurement of a device. Each states its technology node, where its numbers come from and what it
assumes; together they show how much of a claim is the network and how much is the convention.

All constants: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9,
45 nm CMOS at 0.9 V, in picojoules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .operation_rows import LayerOperations

__all__ = ["ENERGY_MODELS", "EnergyModel", "EnergyRow", "estimate_energy"]

HOROWITZ = (
    'M. Horowitz, "Computing\'s energy problem (and what we can do about it)", ISSCC 2014, fig. 1.1.9, 45 nm, 0.9 V'
)
FLOAT_ADD, FLOAT_MULTIPLY = 0.9, 3.7  # 32 bit
FLOAT_MAC = FLOAT_ADD + FLOAT_MULTIPLY
INT8_ADD, INT32_ADD = 0.03, 0.1
INT8_MULTIPLY = 0.2
SRAM_PER_BIT = 20 / 64  # 32 kB cache, 20 pJ per 64-bit access

PIXEL_BITS = 8
STREAM_FACTOR_BITS = 16
UPDATE_ADDITIONS = 4  # leak, current, bias, comparison with the threshold
SPIKING, FP32, INT8 = "spiking", "non-spiking fp32, one pass", "non-spiking int8, one pass"


@dataclass(frozen=True)
class EnergyModel:
    """How operations become joules.

    integers: False charges 32-bit floating-point operations whatever the bits are, and no neuron updates.
    weight_traffic: None (memory is free), "operation" (each operation reads its weight from SRAM) or "step" (each
        weight is read once per time step, and reused for every pixel from registers).
    """

    name: str
    technology: str
    source: str
    assumption: str
    integers: bool
    weight_traffic: str | None

    @property
    def networks(self) -> tuple[str, ...]:
        """What is estimated: the spiking network, and non-spiking ones of the same shape that run once."""
        return (SPIKING, FP32, INT8) if self.integers else (SPIKING, FP32)


@dataclass(frozen=True)
class EnergyRow:
    """Joules per sample of ``network`` by ``model``, split into arithmetic and memory."""

    model: str
    technology: str
    source: str
    assumption: str
    network: str
    compute_j: float
    memory_j: float

    @property
    def total_j(self) -> float:
        return self.compute_j + self.memory_j

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"total_j": self.total_j}


_TRAFFIC = (
    "Memory is a 32 kB SRAM at 20 pJ per 64 bits (0.3125 pJ per bit), read and write alike. Spikes are 1 bit, pixels 8 "
    "bits; each value is written once and read once by every layer that uses it; a membrane is read and written at "
    "every update at its stored bits, a value of a stream written and read once. Partial sums stay in registers. "
    "Activations of the non-spiking networks have the width of their arithmetic. "
)

ENERGY_MODELS = (
    EnergyModel(
        name="MAC and AC, 45 nm",
        technology="45 nm CMOS, 0.9 V",
        source=f"{HOROWITZ}: fp32 multiply 3.7 pJ, fp32 add 0.9 pJ",
        assumption="The usual convention of the field: 4.6 pJ per multiply-accumulate on the input image, 0.9 pJ per "
        "accumulate on a spike, whatever the bit width; memory and neuron updates are free.",
        integers=False,
        weight_traffic=None,
    ),
    EnergyModel(
        name="bit widths, 45 nm",
        technology="45 nm CMOS, 0.9 V",
        source=f"{HOROWITZ}: int8 add 0.03 pJ, int32 add 0.1 pJ, int8 multiply 0.2 pJ; fp32 as above",
        assumption="Integer arithmetic at the stored bits: an addition is as wide as its accumulator must be (linear "
        "between the two published widths, proportional below 8 bits), a multiplication scales with the product of both "
        "widths; a neuron update is four 32-bit additions, a value of a stream one multiplication by 16 bits and one 32-bit "
        "addition for each of its sources; memory is free.",
        integers=True,
        weight_traffic=None,
    ),
    EnergyModel(
        name="bit widths and SRAM, no weight reuse, 45 nm",
        technology="45 nm CMOS, 0.9 V",
        source=f"{HOROWITZ}: as above, and 20 pJ per 64-bit access of a 32 kB cache",
        assumption=_TRAFFIC + "Every operation reads its weight from SRAM, in all networks: the upper end of traffic.",
        integers=True,
        weight_traffic="operation",
    ),
    EnergyModel(
        name="bit widths and SRAM, full weight reuse, 45 nm",
        technology="45 nm CMOS, 0.9 V",
        source=f"{HOROWITZ}: as above, and 20 pJ per 64-bit access of a 32 kB cache",
        assumption=_TRAFFIC
        + "Every weight is read once per time step and reused for all pixels: the lower end of traffic.",
        integers=True,
        weight_traffic="step",
    ),
)


def estimate_energy(
    operations: Sequence[LayerOperations], models: Iterable[EnergyModel] = ENERGY_MODELS
) -> list[EnergyRow]:
    """One row per model and network, joules per sample."""
    rows = []
    for model in models:
        for network in model.networks:
            compute = sum(_compute(model, network, row) for row in operations)
            memory = sum(_memory(model, network, row) for row in operations) if model.weight_traffic else 0.0
            rows.append(
                EnergyRow(
                    model.name,
                    model.technology,
                    model.source,
                    model.assumption,
                    network,
                    compute * 1e-12,
                    memory * 1e-12,
                )
            )
    return rows


def accumulator_bits(row: LayerOperations) -> int:
    """Bits of the signed accumulator that holds any sum of this layer."""
    largest = 2**row.bits - 1 if row.odd or row.bits == 1 else 2 ** (row.bits - 1) - 1
    values = 2**PIXEL_BITS - 1 if row.kind == "mac" else 1
    return min(32, 32 if row.kind == "shortcut" else (largest * row.fan_in * values).bit_length() + 1)


def add_energy(bits: int) -> float:
    """pJ of an integer addition of ``bits`` bits."""
    if bits <= 8:
        return INT8_ADD * bits / 8
    return INT8_ADD + (INT32_ADD - INT8_ADD) * (bits - 8) / 24


def multiply_energy(left_bits: int, right_bits: int) -> float:
    """pJ of an integer multiplication of ``left_bits`` by ``right_bits``."""
    return INT8_MULTIPLY * left_bits * right_bits / 64


def _compute(model: EnergyModel, network: str, row: LayerOperations) -> float:
    if network != SPIKING:
        return row.single_pass * (FLOAT_MAC if network == FP32 else INT8_MULTIPLY + INT32_ADD)
    if not model.integers:
        return row.synaptic * (FLOAT_MAC if row.kind == "mac" else FLOAT_ADD)
    accumulate = add_energy(accumulator_bits(row)) if row.kind != "neuron" else 0.0
    multiply = multiply_energy(PIXEL_BITS, row.bits) if row.kind == "mac" else 0.0
    if row.kind == "stream":
        return row.updates * row.fan_in * (multiply_energy(STREAM_FACTOR_BITS, row.bits) + INT32_ADD)
    return row.synaptic * (accumulate + multiply) + row.updates * UPDATE_ADDITIONS * INT32_ADD


def _memory(model: EnergyModel, network: str, row: LayerOperations) -> float:
    """pJ of SRAM traffic: weights, values read and written, membranes."""
    per_operation = model.weight_traffic == "operation"
    if network == SPIKING:
        bits = row.weights and row.bits * (row.synaptic if per_operation else row.weights * row.steps)
        bits += row.reads * (PIXEL_BITS if row.kind == "mac" else 1) + row.writes
        bits += 2 * row.updates * row.bits
    else:
        width = 32 if network == FP32 else 8
        bits = width * (row.single_pass if per_operation else row.weights)
        bits += (row.reads // row.steps) * (PIXEL_BITS if row.kind == "mac" else width) + (
            row.writes // row.steps
        ) * width
    return bits * SRAM_PER_BIT
