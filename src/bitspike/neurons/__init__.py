"""Spiking neurons: thin modules over ``ops``. A sequence is (T, N, ...); ``step`` takes one step (N, ...)."""

from .adaptive import AdaptiveLIF
from .asn import ASN, NASN
from .integer import IntegerLIF, NormalizedIntegerLIF
from .lif import LIF, PLIF, set_temporal_gradient
from .named import named_neuron
from .observe import FiringRate, observe_rates
from .psn import PSN, MaskedPSN, mask_schedule, set_mask_progress
from .reaching import ReachingLIF
from .registry import NEURONS, Neuron, register_neuron
from .saccadic import DecoupledSaccadic, Saccadic
from .sliding_psn import SlidingPSN
from .spike_inference import resting_current, spike_currents
from .ternary import TernaryLIF

__all__ = [
    "ASN",
    "LIF",
    "NASN",
    "NEURONS",
    "PLIF",
    "PSN",
    "AdaptiveLIF",
    "DecoupledSaccadic",
    "FiringRate",
    "IntegerLIF",
    "MaskedPSN",
    "Neuron",
    "NormalizedIntegerLIF",
    "ReachingLIF",
    "Saccadic",
    "SlidingPSN",
    "TernaryLIF",
    "mask_schedule",
    "named_neuron",
    "observe_rates",
    "register_neuron",
    "resting_current",
    "set_mask_progress",
    "set_temporal_gradient",
    "spike_currents",
]
