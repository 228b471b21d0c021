"""Pure functions on tensors: surrogate gradients, membrane scans, quantizer primitives."""

from .binarize import error_decay_schedule, error_decay_sign, power_of_two_scale, standardize
from .collective import all_maximum, all_mean, leave_processes
from .membrane import LifRule, hard_reset, lif_scan, lif_step, multiplicative_leak, shift_leak, soft_reset
from .precision import MembraneQuantizer, Precision, WeightQuantizer, quantizer_input, weight_quantizer
from .quantize import floor_ste, quantize_power_of_two, quantize_tanh, round_ste, shift_round, symmetric_levels
from .surrogate import SURROGATES, ATan, Rectangle, Sigmoid, Surrogate, Triangle, spike

__all__ = [
    "SURROGATES",
    "ATan",
    "LifRule",
    "MembraneQuantizer",
    "Precision",
    "Rectangle",
    "Sigmoid",
    "Surrogate",
    "Triangle",
    "WeightQuantizer",
    "all_maximum",
    "all_mean",
    "error_decay_schedule",
    "error_decay_sign",
    "floor_ste",
    "hard_reset",
    "leave_processes",
    "lif_scan",
    "lif_step",
    "multiplicative_leak",
    "power_of_two_scale",
    "quantize_power_of_two",
    "quantize_tanh",
    "quantizer_input",
    "round_ste",
    "shift_leak",
    "shift_round",
    "soft_reset",
    "spike",
    "standardize",
    "symmetric_levels",
    "weight_quantizer",
]
