from __future__ import annotations

import math

import pytest
import torch
from helpers import close

from bitspike.ops import SURROGATES, ATan, Rectangle, Sigmoid, Triangle, spike

DTYPES = [torch.float64, torch.float32, torch.bfloat16]

KNOWN = {  # surrogate, distance -> derivative
    "triangle-0": (Triangle(), 0.0, 1.0),
    "triangle-quarter": (Triangle(), -0.25, 0.75),
    "triangle-edge": (Triangle(), 1.0, 0.0),
    "triangle-outside": (Triangle(), 3.0, 0.0),
    "triangle-wide": (Triangle(2.0), 1.0, 0.25),
    "sigmoid-0": (Sigmoid(4.0), 0.0, 1.0),
    "sigmoid-1": (Sigmoid(1.0), 1.0, math.exp(-1) / (1 + math.exp(-1)) ** 2),
    "atan-0": (ATan(2.0), 0.0, 1.0),
    "atan-1": (ATan(2.0), 1.0, 1 / (1 + math.pi**2)),
    "rectangle-inside": (Rectangle(0.5), 0.2, 2.0),
    "rectangle-edge": (Rectangle(0.5), 0.25, 0.0),
    "rectangle-outside": (Rectangle(0.5), -0.3, 0.0),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", KNOWN)
def test_derivative_at_known_points(case: str, dtype: torch.dtype) -> None:
    surrogate, distance, expected = KNOWN[case]
    # 0.2 and the like are not bfloat16 numbers, hence the slack of the argument in the tolerance.
    actual = surrogate.derivative(torch.tensor(distance, dtype=dtype))
    assert actual.dtype == dtype
    close(actual, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", SURROGATES)
def test_derivative_is_even_nonnegative_and_integrates_to_one(name: str) -> None:
    x = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    y = SURROGATES[name]().derivative(x)
    assert (y >= 0).all() and y.max() > 0
    close(y, y.flip(0), scale=1e3)
    assert torch.trapezoid(y, x).item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SURROGATES)
def test_spike_values_dtype_and_gradient(name: str, dtype: torch.dtype) -> None:
    surrogate = SURROGATES[name]()
    x = torch.randn(5, 7, dtype=dtype, requires_grad=True)
    upstream = torch.randn(5, 7, dtype=dtype)
    s = spike(x, surrogate)
    assert s.dtype == dtype and torch.equal(s, (x.detach() > 0).to(dtype))
    s.backward(upstream)
    assert x.grad.dtype == dtype
    assert torch.equal(x.grad, upstream * surrogate.derivative(x.detach()))


@pytest.mark.parametrize("value, expected", [(0.0, 0), (-0.0, 0), (5e-324, 1), (-5e-324, 0), (float("inf"), 1)])
def test_threshold_is_strict(value: float, expected: int) -> None:
    assert spike(torch.tensor(value, dtype=torch.float64), Triangle()).item() == expected


def test_surrogates_are_plain_hashable_data() -> None:
    assert Triangle() == Triangle(1.0) and len({Triangle(), Triangle(1.0), Triangle(2.0)}) == 2
