"""Bits, operations, energy, latency, memory and agreement, measured on the artifact that ships; and the report."""

from .agreement import AgreementRow, agreement_table, exact_outputs
from .attention_maps import AttentionMap, attention_of_sample, observe_attention
from .collect import measure_all, network_pictures
from .energy import ENERGY_MODELS, EnergyModel, EnergyRow, estimate_energy
from .environment import environment
from .latency import LatencyRow, measure_latency
from .layer_times import LayerTimes, layer_times
from .memory import MemoryRow, peak_memory
from .operations import LayerOperations, SpikeTotals, count_operations, operations_of, spike_totals
from .raster import RasterLayer, network_raster, spike_raster
from .report import render_report, write_report
from .rivals import available_rivals, check_rivals, missing_note
from .size import SizeReport, SizeRow, artifact_sections, model_size
from .sparse import SparseSizeReport, SparseSizeRow, sparse_size
from .torch_network import torch_network

__all__ = [
    "ENERGY_MODELS",
    "AgreementRow",
    "AttentionMap",
    "EnergyModel",
    "EnergyRow",
    "LatencyRow",
    "LayerOperations",
    "LayerTimes",
    "MemoryRow",
    "RasterLayer",
    "SizeReport",
    "SizeRow",
    "SparseSizeReport",
    "SparseSizeRow",
    "SpikeTotals",
    "agreement_table",
    "artifact_sections",
    "attention_of_sample",
    "available_rivals",
    "check_rivals",
    "count_operations",
    "environment",
    "estimate_energy",
    "exact_outputs",
    "layer_times",
    "measure_all",
    "measure_latency",
    "missing_note",
    "model_size",
    "network_pictures",
    "network_raster",
    "observe_attention",
    "operations_of",
    "peak_memory",
    "render_report",
    "sparse_size",
    "spike_raster",
    "spike_totals",
    "torch_network",
    "write_report",
]
