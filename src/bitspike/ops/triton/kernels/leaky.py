"""The leaky integrate-and-fire scan and its backward pass.

A program owns a block of neurons and walks over time in segments of up to 8 steps. All rows of a segment are loaded
before any is used, so that their latencies overlap. The spikes of a segment are the bits of one byte per neuron, and the
membrane is kept only where a segment begins: the backward pass computes the membranes of a segment again from there,
with the operations of the forward pass, and takes the spikes from the byte.

Rows are (features,) of a (steps, features) array; those of inputs lie ``pitch`` values apart, all others are dense.
``leak_ptr`` and ``gain_ptr`` point to a learned value or are None; then the number beside them counts.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .rows import block_columns, live, load_rows, value

__all__ = ["leaky_backward_kernel", "leaky_forward_kernel"]


@triton.jit
def _settle(membrane, spikes, threshold, HARD: tl.constexpr):
    if HARD:
        return (1.0 - spikes) * membrane
    else:
        return membrane - threshold * spikes


@triton.jit(do_not_specialize=["steps"])
def leaky_forward_kernel(
    current_ptr,
    spikes_ptr,
    bits_ptr,
    carries_ptr,
    leak_ptr,
    gain_ptr,
    leak_value: tl.float64,
    gain_value: tl.float64,
    threshold_value: tl.float64,
    steps,
    features,
    pitch,
    HARD: tl.constexpr,
    SAVE: tl.constexpr,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = tl.float64 if current_ptr.dtype.element_ty == tl.float64 else tl.float32
    leak = value(leak_ptr, leak_value, dtype)
    gain = value(gain_ptr, gain_value, dtype)
    threshold = tl.full((), threshold_value, dtype)
    width = tl.cast(features, tl.int64)
    columns, inside = block_columns(width, BLOCK)
    carry = tl.zeros([BLOCK], dtype=dtype)
    for segment in range((steps + SEGMENT - 1) // SEGMENT):
        here = tl.cast(segment, tl.int64)
        start = here * SEGMENT
        if SAVE:  # before the first segment the membrane rests
            tl.store(carries_ptr + (here - 1) * width + columns, carry, mask=live(here - 1, here, inside))
        currents = load_rows(current_ptr, start, steps, pitch, columns, inside, dtype, SEGMENT)
        packed = tl.zeros([BLOCK], dtype=tl.int32)
        for k in tl.static_range(SEGMENT):
            membrane = leak * carry + gain * currents[k]
            exists = live(start + k, steps, inside)
            fired = exists & (membrane - threshold > 0)
            spikes = fired.to(dtype)
            tl.store(spikes_ptr + (start + k) * width + columns, spikes.to(spikes_ptr.dtype.element_ty), mask=exists)
            packed = packed | (fired.to(tl.int32) << k)
            carry = _settle(membrane, spikes, threshold, HARD)
        if SAVE:
            tl.store(bits_ptr + here * width + columns, packed.to(tl.uint8), mask=inside)


@triton.jit(do_not_specialize=["steps"])
def leaky_backward_kernel(
    gradient_ptr,
    current_ptr,
    bits_ptr,
    carries_ptr,
    result_ptr,
    sums_ptr,
    leak_ptr,
    gain_ptr,
    leak_value: tl.float64,
    gain_value: tl.float64,
    threshold_value: tl.float64,
    parameter_value: tl.float64,
    steps,
    features,
    pitch,
    gradient_pitch,
    DERIVATIVE: tl.constexpr,
    HARD: tl.constexpr,
    DETACH: tl.constexpr,
    FULL: tl.constexpr,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``sums_ptr``: one row per program, the block's share of the gradients of leak and gain; None where none is learned."""
    dtype: tl.constexpr = tl.float64 if current_ptr.dtype.element_ty == tl.float64 else tl.float32
    leak = value(leak_ptr, leak_value, dtype)
    gain = value(gain_ptr, gain_value, dtype)
    threshold = tl.full((), threshold_value, dtype)
    parameter = tl.full((), parameter_value, dtype)
    width = tl.cast(features, tl.int64)
    columns, inside = block_columns(width, BLOCK)
    by_carry = tl.zeros([BLOCK], dtype=dtype)
    by_leak = tl.zeros([BLOCK], dtype=dtype)
    by_gain = tl.zeros([BLOCK], dtype=dtype)
    segments = (steps + SEGMENT - 1) // SEGMENT
    for i in range(segments):
        here = tl.cast(segments - 1 - i, tl.int64)
        start = here * SEGMENT
        currents = load_rows(current_ptr, start, steps, pitch, columns, inside, dtype, SEGMENT)
        gradients = load_rows(gradient_ptr, start, steps, gradient_pitch, columns, inside, dtype, SEGMENT)
        packed = tl.load(bits_ptr + here * width + columns, mask=inside, other=0).to(tl.int32)
        carry = tl.load(carries_ptr + (here - 1) * width + columns, mask=live(here - 1, here, inside), other=0.0)
        carries = ()
        membranes = ()
        for k in tl.static_range(SEGMENT):
            membrane = leak * carry + gain * currents[k]
            carries = carries + (carry,)
            membranes = membranes + (membrane,)
            carry = _settle(membrane, ((packed >> k) & 1).to(dtype), threshold, HARD)
        for k in tl.static_range(SEGMENT - 1, -1, -1):
            spikes = ((packed >> k) & 1).to(dtype)
            by_spikes = gradients[k]
            by_membrane = by_carry
            if HARD:
                by_membrane = (1.0 - spikes) * by_carry
            if not DETACH:
                if HARD:
                    by_spikes = by_spikes - membranes[k] * by_carry
                else:
                    by_spikes = by_spikes - threshold * by_carry
            by_membrane = by_membrane + by_spikes * DERIVATIVE(membranes[k] - threshold, parameter)
            result = (gain * by_membrane).to(result_ptr.dtype.element_ty)
            tl.store(result_ptr + (start + k) * width + columns, result, mask=live(start + k, steps, inside))
            if sums_ptr is not None:
                by_leak += by_membrane * carries[k]
                by_gain += by_membrane * currents[k]
            if FULL:
                by_carry = leak * by_membrane
    if sums_ptr is not None:
        row = sums_ptr + 2 * tl.program_id(0)
        tl.store(row, tl.sum(by_leak, axis=0))
        tl.store(row + 1, tl.sum(by_gain, axis=0))
