"""Pure functions on tensors: surrogate gradients, membrane scans, quantizer primitives."""

from .backends import Backend, Choice, choose, reference_only, register_backend, run
from .binarize import (
    clipped_sign,
    error_decay_schedule,
    error_decay_sign,
    identity_sign,
    power_of_two_scale,
    standardize,
)
from .collective import all_maximum, all_mean, leave_processes
from .convolutions import spike_conv2d, winograd_convolutions, winograd_refusal
from .integer_levels import integer_levels, micro_steps, window_gradient_scale
from .membrane import (
    LifRule,
    full_gradient,
    hard_reset,
    lif_membranes,
    lif_scan,
    lif_step,
    multiplicative_leak,
    shift_leak,
    soft_reset,
    spatial_gradient,
)
from .odd_levels import odd_levels
from .packing import Packed, pack, pack_bits, unpack, unpack_bits
from .precision import MembraneQuantizer, Precision, WeightQuantizer, quantizer_input, weight_quantizer
from .programs import STORED, LeakyProgram, Program, WindowProgram, lif_program
from .quantize import floor_ste, quantize_power_of_two, quantize_tanh, round_ste, shift_round, symmetric_levels
from .rebuilding import made_again, rebuild_of, rebuild_sum, rebuildable
from .reversible import FixedPoint, average_chain, average_step, unwound_chain, unwound_step
from .saved_bits import bit_avg_pool2d, bit_conv2d, bit_linear, bit_max_pool2d
from .stepping import (
    Advance,
    adaptive_advance,
    integer_advance,
    scan_membranes,
    scan_outputs,
    ternary_advance,
    ternary_hard_reset,
    ternary_soft_reset,
)
from .surrogate import SURROGATES, ATan, Rectangle, Sigmoid, Surrogate, Triangle, reach, spike
from .temporal import band_matrix, band_taps, causal_filter, mix_steps
from .threshold import soft_threshold
from .winograd import winograd_conv2d

from . import native, triton  # noqa: F401  # isort: skip  # register their kernels

__all__ = [
    "STORED",
    "SURROGATES",
    "ATan",
    "Advance",
    "Backend",
    "Choice",
    "FixedPoint",
    "LeakyProgram",
    "LifRule",
    "MembraneQuantizer",
    "Packed",
    "Precision",
    "Program",
    "Rectangle",
    "Sigmoid",
    "Surrogate",
    "Triangle",
    "WeightQuantizer",
    "WindowProgram",
    "adaptive_advance",
    "all_maximum",
    "all_mean",
    "average_chain",
    "average_step",
    "band_matrix",
    "band_taps",
    "bit_avg_pool2d",
    "bit_conv2d",
    "bit_linear",
    "bit_max_pool2d",
    "causal_filter",
    "choose",
    "clipped_sign",
    "error_decay_schedule",
    "error_decay_sign",
    "floor_ste",
    "full_gradient",
    "hard_reset",
    "identity_sign",
    "integer_advance",
    "integer_levels",
    "leave_processes",
    "lif_membranes",
    "lif_program",
    "lif_scan",
    "lif_step",
    "made_again",
    "micro_steps",
    "mix_steps",
    "multiplicative_leak",
    "odd_levels",
    "pack",
    "pack_bits",
    "power_of_two_scale",
    "quantize_power_of_two",
    "quantize_tanh",
    "quantizer_input",
    "reach",
    "rebuild_of",
    "rebuild_sum",
    "rebuildable",
    "reference_only",
    "register_backend",
    "round_ste",
    "run",
    "scan_membranes",
    "scan_outputs",
    "shift_leak",
    "shift_round",
    "soft_reset",
    "soft_threshold",
    "spatial_gradient",
    "spike",
    "spike_conv2d",
    "standardize",
    "symmetric_levels",
    "ternary_advance",
    "ternary_hard_reset",
    "ternary_soft_reset",
    "unpack",
    "unpack_bits",
    "unwound_chain",
    "unwound_step",
    "weight_quantizer",
    "window_gradient_scale",
    "winograd_conv2d",
    "winograd_convolutions",
    "winograd_refusal",
]
