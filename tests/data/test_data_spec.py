from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from bitspike.data import (
    DataBundle,
    DataError,
    DataSpec,
    Split,
    list_datasets,
    load,
    normalize,
    to_time_leading,
)
from bitspike.data.spec import affine_u8

SPEC = DataSpec("toy", (2, 3, 3), ("a", "b"), (10, 200), 0.02)


def split(n: int = 4, shape: tuple[int, ...] = (2, 3, 3)) -> Split:
    return Split(np.zeros((n, *shape), np.uint8), np.arange(n, dtype=np.int64) % 2)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shape": (0, 3, 3)}, "shape"),
        ({"classes": ("a", "a")}, "classes"),
        ({"zero_point": (1,)}, "zero_point"),
        ({"zero_point": (1, 256)}, "zero_point"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"time_steps": 0}, "time_steps"),
    ],
)
def test_spec_refuses(change: dict, word: str) -> None:
    with pytest.raises(DataError, match=f"toy: {word}"):
        dataclasses.replace(SPEC, **change)


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (np.zeros((2, 1, 3, 3), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 1, 3, 3), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((2, 1, 3, 3), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 1, 3, 3), np.uint8), np.array([0, -1])),
    ],
    ids=["float", "rank3", "count", "int32", "negative"],
)
def test_split_refuses(inputs: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError):
        Split(inputs, labels)


def test_bundle_refuses_other_shape_and_label() -> None:
    with pytest.raises(DataError, match=r"test samples have shape \(2, 3, 4\)"):
        DataBundle(SPEC, split(), split(), split(shape=(2, 3, 4)))
    bad = Split(np.zeros((1, 2, 3, 3), np.uint8), np.array([2]))
    with pytest.raises(DataError, match="validation label 2; accepted: 0 to 1"):
        DataBundle(SPEC, split(), bad, split())


def test_normalize_is_the_stated_formula() -> None:
    q = np.random.default_rng(0).integers(0, 256, (5, 4, 2, 3, 3), dtype=np.uint8)
    zero = np.array(SPEC.zero_point)[:, None, None]
    expected = (q.astype(np.float32) - zero.astype(np.float32)) * np.float32(SPEC.scale)
    for x, want in ((q, expected), (q[0], expected[0])):
        result = normalize(torch.from_numpy(x), SPEC)
        assert result.dtype == torch.float32
        np.testing.assert_array_equal(result.numpy(), want)


@pytest.mark.parametrize("x", [torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3, dtype=torch.uint8)])
def test_normalize_refuses(x: torch.Tensor) -> None:
    with pytest.raises(DataError, match="accepted for toy"):
        normalize(x, SPEC)


def test_affine_stays_close_to_published_standardisation() -> None:
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    zero, scale = affine_u8(mean, std)
    assert zero == (125, 123, 114)
    q = np.arange(256)
    for c in range(3):
        assert np.abs((q - zero[c]) * scale - (q / 255 - mean[c]) / std[c]).max() < 0.05


def test_to_time_leading() -> None:
    frames = np.arange(2 * 3 * 1 * 2 * 2).reshape(2, 3, 1, 2, 2)
    moved = to_time_leading(torch.from_numpy(frames))
    assert moved.shape == (3, 2, 1, 2, 2)
    np.testing.assert_array_equal(to_time_leading(frames), moved.numpy())
    with pytest.raises(DataError, match="accepted"):
        to_time_leading(frames[0])


def test_import_is_light() -> None:
    code = (
        "import sys, bitspike.data as d; d.list_datasets(); "
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'PIL', 'pooch', 'tonic') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_registry_names() -> None:
    assert list_datasets() == ("cifar10", "cifar100", "digits", "fashion-mnist", "mnist", "nmnist")


def test_load_refuses_names_options_and_roots(tmp_path) -> None:
    with pytest.raises(DataError, match=r"unknown data set 'cifar11'; accepted: cifar10, .*nmnist"):
        load("cifar11")
    with pytest.raises(DataError, match="unknown nmnist option 'steps'; accepted: slice_by, time_steps"):
        load("nmnist", steps=3)
    with pytest.raises(DataError, match="unknown digits option 'time_steps'; accepted: none"):
        load("digits", time_steps=3)
    with pytest.raises(DataError, match="nowhere' is not a folder"):
        load("mnist", tmp_path / "nowhere")


@pytest.mark.parametrize("name", [n for n in list_datasets() if n != "digits"])
def test_empty_root_is_one_clear_error(name: str, tmp_path) -> None:
    with pytest.raises(DataError, match=rf"{name}: no .* in {tmp_path}, nor in its folders"):
        load(name, tmp_path)
