"""Spiking neurons: thin modules over ``ops``. A sequence is (T, N, ...); ``step`` takes one step (N, ...)."""

from .lif import LIF, PLIF, set_temporal_gradient
from .observe import FiringRate, observe_rates
from .registry import NEURONS, Neuron, register_neuron

__all__ = [
    "LIF",
    "NEURONS",
    "PLIF",
    "FiringRate",
    "Neuron",
    "observe_rates",
    "register_neuron",
    "set_temporal_gradient",
]
