"""Neurons that see a window of the last currents, and their backward pass.

h[t] = sum_i taps[i, t] x[t - order + 1 + i], s[t] = [h[t] > threshold[t]]. A program owns a block of neurons and takes the
steps in chunks, with the rows that a chunk needs in registers. Nothing but the current is kept for backward: the
membranes of a chunk, and of the steps after it that saw its currents, are computed again. Sums run over the taps in their
order; products and sums are rounded one by one.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .rows import block_columns, live, load_rows

__all__ = ["window_backward_kernel", "window_forward_kernel"]


@triton.jit
def _all_steps(pointer, dtype: tl.constexpr, COUNT: tl.constexpr):
    values = ()
    for i in tl.static_range(COUNT):
        values = values + (tl.load(pointer + i).to(dtype),)
    return values


@triton.jit
def _at_step(pointer, step, steps, dtype: tl.constexpr, COUNT: tl.constexpr):
    """Column ``step`` of (COUNT, steps) as a tuple; zeros outside."""
    values = ()
    for i in tl.static_range(COUNT):
        inside = (step >= 0) & (step < steps)
        values = values + (tl.load(pointer + i * steps + step, mask=inside, other=0.0).to(dtype),)
    return values


@triton.jit
def _membrane(rows, taps, first: tl.constexpr, dtype: tl.constexpr, ORDER: tl.constexpr):
    membrane = taps[0] * rows[first]
    for i in tl.static_range(1, ORDER):
        membrane += taps[i] * rows[first + i]
    return membrane


@triton.jit(do_not_specialize=["steps"])
def window_forward_kernel(
    current_ptr,
    taps_ptr,
    threshold_ptr,
    spikes_ptr,
    steps,
    features,
    pitch,
    PER_STEP: tl.constexpr,
    DOUBLE: tl.constexpr,
    ORDER: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    dtype: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    width = tl.cast(features, tl.int64)
    columns, inside = block_columns(width, BLOCK)
    taps = () if PER_STEP else _all_steps(taps_ptr, dtype, ORDER)
    thresholds = () if PER_STEP else _all_steps(threshold_ptr, dtype, 1)
    for chunk in range((steps + CHUNK - 1) // CHUNK):
        start = tl.cast(chunk, tl.int64) * CHUNK
        rows = load_rows(current_ptr, start - (ORDER - 1), steps, pitch, columns, inside, dtype, CHUNK + ORDER - 1)
        for c in tl.static_range(CHUNK):
            if PER_STEP:
                membrane = _membrane(rows, _at_step(taps_ptr, start + c, steps, dtype, ORDER), c, dtype, ORDER)
                fired = membrane - _at_step(threshold_ptr, start + c, steps, dtype, 1)[0] > 0
            else:
                fired = _membrane(rows, taps, c, dtype, ORDER) - thresholds[0] > 0
            spikes = fired.to(dtype).to(spikes_ptr.dtype.element_ty)
            tl.store(spikes_ptr + (start + c) * width + columns, spikes, mask=live(start + c, steps, inside))


@triton.jit(do_not_specialize=["steps"])
def window_backward_kernel(
    gradient_ptr,
    current_ptr,
    taps_ptr,
    threshold_ptr,
    result_ptr,
    sums_ptr,
    parameter_value: tl.float64,
    steps,
    features,
    pitch,
    gradient_pitch,
    DERIVATIVE: tl.constexpr,
    PER_STEP: tl.constexpr,
    DOUBLE: tl.constexpr,
    ORDER: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``sums_ptr`` (programs, steps or chunks, ORDER + 1): each block's share of the gradients of the taps and, last, the
    threshold; steps are filled up to whole chunks. None where they are not learned."""
    dtype: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    parameter = tl.full((), parameter_value, dtype)
    width = tl.cast(features, tl.int64)
    columns, inside = block_columns(width, BLOCK)
    taps = () if PER_STEP else _all_steps(taps_ptr, dtype, ORDER)
    thresholds = () if PER_STEP else _all_steps(threshold_ptr, dtype, 1)
    chunks = (steps + CHUNK - 1) // CHUNK
    for chunk in range(chunks):
        here = tl.cast(chunk, tl.int64)
        start = here * CHUNK
        first = start - (ORDER - 1)
        rows = load_rows(current_ptr, first, steps, pitch, columns, inside, dtype, CHUNK + 2 * (ORDER - 1))
        upstream = load_rows(gradient_ptr, start, steps, gradient_pitch, columns, inside, dtype, CHUNK + ORDER - 1)
        by_membranes = ()
        for j in tl.static_range(CHUNK + ORDER - 1):
            if PER_STEP:
                membrane = _membrane(rows, _at_step(taps_ptr, start + j, steps, dtype, ORDER), j, dtype, ORDER)
                distance = membrane - _at_step(threshold_ptr, start + j, steps, dtype, 1)[0]
            else:
                distance = _membrane(rows, taps, j, dtype, ORDER) - thresholds[0]
            by_membranes = by_membranes + (upstream[j] * DERIVATIVE(distance, parameter),)
        for c in tl.static_range(CHUNK):
            total = tl.zeros([BLOCK], dtype=dtype)
            for i in tl.static_range(ORDER):
                if PER_STEP:
                    step = start + c + ORDER - 1 - i
                    tap = tl.load(taps_ptr + i * steps + step, mask=step < steps, other=0.0).to(dtype)
                    total += tap * by_membranes[c + ORDER - 1 - i]
                else:
                    total += taps[i] * by_membranes[c + ORDER - 1 - i]
            result = total.to(result_ptr.dtype.element_ty)
            tl.store(result_ptr + (start + c) * width + columns, result, mask=live(start + c, steps, inside))
        if sums_ptr is not None:
            place = tl.program_id(0).to(tl.int64) * chunks + here
            if PER_STEP:
                for c in tl.static_range(CHUNK):
                    row = sums_ptr + (place * CHUNK + c) * (ORDER + 1)
                    for i in tl.static_range(ORDER):
                        tl.store(row + i, tl.sum(by_membranes[c] * rows[c + i], axis=0))
                    tl.store(row + ORDER, -tl.sum(by_membranes[c], axis=0))
            else:
                row = sums_ptr + place * (ORDER + 1)
                fired = tl.zeros([BLOCK], dtype=dtype)
                for c in tl.static_range(CHUNK):
                    fired += by_membranes[c]
                tl.store(row + ORDER, -tl.sum(fired, axis=0))
                for i in tl.static_range(ORDER):
                    product = tl.zeros([BLOCK], dtype=dtype)
                    for c in tl.static_range(CHUNK):
                        product += by_membranes[c] * rows[c + i]
                    tl.store(row + i, tl.sum(product, axis=0))
