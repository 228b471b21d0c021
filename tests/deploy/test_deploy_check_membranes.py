"""Bounds of membranes, which the checker proves: reached, never left, and whether 16 bits hold them."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from graph_parts import i32, lif, ones

from bitspike.deploy import ir, reference
from bitspike.deploy.check import check, fits_int16


def potentials(node: ir.Lif, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(u, spikes) of one neuron per column: ``ir.Lif`` word for word, on Python integers; current (T, C), no bias."""
    limit = 2 ** (node.membrane_bits - 1) - 1
    u_all, s_all = np.zeros(current.shape, object), np.zeros(current.shape, object)
    for c in range(current.shape[1]):
        carry, k = 0, int(node.membrane_shift[c])
        for t in range(len(current)):
            leaked = carry - (carry >> node.leak_shift) if node.leak_shift else carry
            u = leaked + int(current[t, c]) + int(node.bias[c])
            spike = u >= int(node.threshold[c])
            rest = u - spike * int(node.threshold[c]) if node.soft_reset else 0 if spike else u
            carry = min(max((rest + ((1 << k) >> 1)) >> k, -limit), limit) << k
            u_all[t, c], s_all[t, c] = u, int(spike)
    return u_all, s_all


def random_lif(rng: np.random.Generator, channels: int, **fixed: Any) -> ir.Lif:
    return lif(
        (1,),
        channels,
        **{
            "multiplier": rng.integers(-20, 21, (1, channels)).astype(np.int32),
            "bias": rng.integers(-60, 61, channels).astype(np.int32),
            "threshold": rng.integers(0, 120, channels).astype(np.int32),
            "membrane_shift": rng.integers(0, 5, channels).astype(np.uint8),
            "membrane_bits": int(rng.integers(2, 9)),
            "leak_shift": int(rng.integers(0, 4)),
            "soft_reset": bool(rng.integers(2)),
        }
        | fixed,
    )


def one_layer(node: ir.Lif, weight: np.ndarray, steps: int) -> ir.Graph:
    """Three spiking inputs (pixel > 0) into the given neurons."""
    channels = len(weight)
    first = lif((1,), 3, threshold=i32(1, 1, 1), bias=i32(0, 0, 0), leak_shift=1)
    first = dataclasses.replace(first, membrane_bits=2)
    return ir.Graph(steps, [
        ir.Input(3, 1, 1, steps, (0, 0, 0)),
        ir.Conv(0, np.eye(3, dtype=np.int8)[:, :, None, None], 2),
        first,
        ir.Conv(2, weight[:, :, None, None].astype(np.int8), 8),
        dataclasses.replace(node, sources=(3,)),
        ir.Readout(4, ones(2, channels), i32(0, 0), 8),
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_reference_lif_is_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    node = random_lif(rng, 9)
    current = rng.integers(-90, 130, (6, 9))
    _, spikes = potentials(node, current)
    actual = reference.lif(current[:, None, :, None, None].astype(np.int64), node)
    np.testing.assert_array_equal(actual[:, 0, :, 0, 0], spikes.astype(int))


@pytest.mark.parametrize("seed", range(10))
def test_membrane_never_leaves_its_proven_range(seed: int) -> None:
    """All 2^3 spike patterns at each of random sequences: brute force against the bound."""
    rng = np.random.default_rng(seed)
    node, weight = random_lif(rng, 7), rng.integers(-127, 128, (7, 3))
    bounds = check(one_layer(node, weight, 4))[4]
    patterns = np.array(list(itertools.product((0, 1), repeat=3)))
    for sequence in rng.integers(0, 8, (60, 4)):
        u, _ = potentials(node, patterns[sequence] @ weight.T * node.multiplier[0])
        assert (u >= bounds.potential_low).all() and (u <= bounds.potential_high).all()
    one_step, _ = potentials(node, patterns @ weight.T * node.multiplier[0])
    carry = (2 ** (node.membrane_bits - 1) - 1) << node.membrane_shift.astype(int)
    first_steps = np.stack([potentials(node, (p @ weight.T * node.multiplier[0])[None])[0][0] for p in patterns])
    assert (first_steps.max(0) + carry == bounds.potential_high).all()
    assert (first_steps.min(0) - carry == bounds.potential_low).all()
    assert len(one_step) == 8


@pytest.mark.parametrize("excess, fits", [(0, True), (1, False)])
@pytest.mark.parametrize("side", [1, -1], ids=["high", "low"])
def test_sixteen_bit_bound_is_attained_and_exact(side: int, excess: int, fits: bool) -> None:
    """Without leak, and with a threshold that is never met, the membrane reaches its bound to the integer.

    Upwards, 16 bits must also hold the rounding term of half a stored unit (8 here).
    """
    weight = np.array([[side * 100, side * 20, 0]])
    carry = 7 << 4
    target = (2**15 - 1 - 8 if side > 0 else 2**15) + excess
    bias = i32(side * (target - 120 - carry))
    node = lif((1,), 1, bias=bias, threshold=i32(2**15 - 1), membrane_shift=np.array([4], np.uint8), leak_shift=0)
    bounds = check(one_layer(node, weight, 3))[4]
    u, _ = potentials(node, np.full((3, 1), side * 120))
    assert u[-1, 0] == side * target == (bounds.potential_high if side > 0 else bounds.potential_low)[0]
    assert fits_int16(bounds).tolist() == [fits]


def test_sixteen_bit_proof_is_per_channel() -> None:
    changes = {"bias": i32(0, 0, -40000, 0), "threshold": i32(2, 2, 2, 2**15), "membrane_shift": np.zeros(4, np.uint8)}
    node = lif((1,), 4, multiplier=np.array([[1, 400, 1, 1]], np.int32), **changes)
    bounds = check(one_layer(node, np.full((4, 3), 100), 2))[4]
    assert fits_int16(bounds).tolist() == [True, False, False, False]
