"""Packed tensors give back every value, stride and dtype, and refuse whatever they could not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bitspike.ops import pack, pack_bits, unpack, unpack_bits
from bitspike.ops.packing import BLOCK

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def spikes(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(count) < 0.3).to(dtype)


def reference(values: Tensor) -> list[int]:
    bits = [int(v) for v in values.tolist()]
    return [sum(bit << j for j, bit in enumerate(bits[i : i + 8])) for i in range(0, len(bits), 8)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 1003])
def test_bits_are_those_of_the_reference_and_come_back(count: int, dtype: torch.dtype) -> None:
    values = spikes(count, dtype)
    data = pack_bits(values)
    assert data is not None and data.tolist() == reference(values)
    assert torch.equal(unpack_bits(data, torch.full_like(values, 5)), values)


@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 9, 2 * BLOCK + 1])
def test_blocks_join_without_a_gap(count: int) -> None:
    values = spikes(count)
    packed = pack(values)
    assert packed is not None and packed.code == "bits" and torch.equal(unpack(packed), values)


@pytest.mark.parametrize(
    ("values", "code", "bytes_each"),
    [
        (lambda: spikes(840), "bits", 1 / 8),
        (lambda: torch.randint(0, 256, (840,)).float(), "counts", 1),
        (lambda: torch.randint(0, 256, (840,)) / 4, "quarters", 1),
        (lambda: torch.zeros(840), "bits", 1 / 8),
    ],
    ids=["spikes", "counts", "quarters", "silence"],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_few_values_take_few_bytes(values, code: str, bytes_each: float, dtype: torch.dtype) -> None:
    x = values().to(dtype)
    packed = pack(x)
    assert packed is not None and packed.code == code and packed.data.numel() == 840 * bytes_each
    assert torch.equal(unpack(packed), x) and unpack(packed).dtype == dtype


@pytest.mark.parametrize("value", [-1.0, 0.5 - 1e-7, 1 + 1e-6, 256.0, 1e30, -1e-30, float("inf"), float("nan")])
@pytest.mark.parametrize("place", [0, BLOCK, BLOCK + 10])
def test_one_other_value_anywhere_is_found(value: float, place: int) -> None:
    x = spikes(BLOCK + 11)
    x[place] = value
    assert pack(x) is None


def test_a_later_code_takes_what_an_earlier_one_began() -> None:
    x = spikes(BLOCK + 11)
    x[-1] = 0.75
    packed = pack(x)
    assert packed is not None and packed.code == "quarters" and torch.equal(unpack(packed), x)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.permute(3, 1, 0, 2),
        lambda x: x[2:4],
        lambda x: x[:0],
        lambda x: x[:1, :1],
    ],
    ids=["plain", "channels-last", "permuted", "slice", "empty", "ones"],
)
def test_order_in_memory_is_kept(view) -> None:
    x = view(spikes(5 * 3 * 4 * 7).view(5, 3, 4, 7))
    packed = pack(x)
    assert packed is not None
    assert torch.equal(unpack(packed), x) and unpack(packed).stride() == x.stride()


@pytest.mark.parametrize(
    "x", [torch.zeros(4, 6)[:, ::2], torch.zeros(1, 3).expand(4, 3), torch.zeros(3, dtype=torch.int64)]
)
def test_gaps_repeats_and_integers_are_left_alone(x: Tensor) -> None:
    assert pack(x) is None
