"""Bits of the kernels against those of ``ops.packing``."""

from __future__ import annotations

import pytest
import torch
from kernel_tests import DEVICE, draw, needs_triton

from bitspike.errors import ConfigError
from bitspike.ops import packing
from bitspike.ops.triton import pack_bits, unpack_bits

pytestmark = needs_triton


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 2091])
def test_bits_are_those_of_the_reference_and_come_back(count: int, dtype: torch.dtype) -> None:
    values = (draw(count, gradient=False) > 0.5).to(dtype)
    data = pack_bits(values)
    assert data is not None and torch.equal(data, packing.pack_bits(values))
    assert torch.equal(unpack_bits(data, torch.full_like(values, 7)), values)


@pytest.mark.parametrize("other", [0.5, 2.0, -1.0, float("nan"), float("inf")])
def test_other_values_have_no_bits(other: float) -> None:
    values = torch.ones(2091, device=DEVICE)
    values[-1] = other
    assert pack_bits(values) is None


def test_operators_are_registered_soundly() -> None:
    torch.library.opcheck(torch.ops.bitspike.pack_bits_triton.default, (torch.ones(13, device=DEVICE),))
    data, out = torch.arange(2, dtype=torch.uint8, device=DEVICE), torch.empty(13, device=DEVICE)
    torch.library.opcheck(torch.ops.bitspike.unpack_bits_triton.default, (data, out))


def test_bytes_of_another_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="there are 2 bytes, accepted for 21 values: 3"):
        unpack_bits(torch.zeros(2, dtype=torch.uint8, device=DEVICE), torch.empty(21, device=DEVICE))
