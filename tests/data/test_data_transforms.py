from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image, ImageOps

from bitspike.data import AUGMENTATIONS, Augment, DataError, DataSpec
from bitspike.data.autoaugment import _OPERATIONS, POLICY

N = 60
COLOUR = DataSpec("colour", (3, 32, 32), ("a", "b"), (125, 123, 114), 0.02)
FRAMES = DataSpec("frames", (2, 34, 34), ("a", "b"), (0, 0), 1.0, time_steps=3)


def spec_of(name: str) -> DataSpec:
    return FRAMES if AUGMENTATIONS[name].frames else COLOUR


def samples(spec: DataSpec, n: int = N) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (n, *spec.sample_shape), dtype=np.uint8)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_result_depends_on_seed_epoch_and_index_alone(name: str) -> None:
    spec = spec_of(name)
    x = samples(spec)
    before = x.copy()
    everything = np.arange(N)
    whole = Augment([name], spec, 5).for_epoch(2, N)(x, everything)
    np.testing.assert_array_equal(x, before)
    assert whole.dtype == np.uint8 and whole.shape == x.shape and not np.array_equal(whole, x)
    order = np.random.default_rng(1).permutation(N)
    for part in np.split(order, [1, 8, 8, 41]):  # one of them empty
        again = Augment([name], spec, 5).for_epoch(2, N)(x[part], part)
        np.testing.assert_array_equal(again, whole[part])
    for other in (Augment([name], spec, 6).for_epoch(2, N), Augment([name], spec, 5).for_epoch(3, N)):
        assert not np.array_equal(other(x, everything), whole)


@pytest.mark.parametrize("name", ["crop1", "crop2", "crop4"])
def test_crop_is_a_window_of_the_padded_picture(name: str) -> None:
    pad, x = int(name[4:]), samples(COLOUR, 400)
    result = Augment([name], COLOUR, 0).for_epoch(0, len(x))(x, np.arange(len(x)))
    seen = set()
    for image, cropped in zip(x, result, strict=True):
        channels = [
            np.pad(plane, pad, constant_values=zero) for plane, zero in zip(image, COLOUR.zero_point, strict=True)
        ]
        padded = np.stack(channels)
        places = [
            (dy, dx)
            for dy in range(2 * pad + 1)
            for dx in range(2 * pad + 1)
            if np.array_equal(padded[:, dy : dy + 32, dx : dx + 32], cropped)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 0.9 * (2 * pad + 1) ** 2


@pytest.mark.parametrize("name", ["flip", "event-flip"])
def test_flip_mirrors_half(name: str) -> None:
    spec = spec_of(name)
    x = samples(spec, 200)
    result = Augment([name], spec, 0).for_epoch(0, 200)(x, np.arange(200))
    same = np.array([np.array_equal(a, b) for a, b in zip(x, result, strict=True)])
    mirrored = np.array([np.array_equal(a[..., ::-1], b) for a, b in zip(x, result, strict=True)])
    assert (same ^ mirrored).all() and 70 < mirrored.sum() < 130


@pytest.mark.parametrize("size", [8, 16])
def test_cutout_blanks_one_clipped_square(size: int) -> None:
    x = np.full((500, 3, 32, 32), 255, np.uint8)
    result = Augment([f"cutout{size}"], COLOUR, 0).for_epoch(0, 500)(x, np.arange(500))
    zero = np.array(COLOUR.zero_point)[:, None]
    sides = []
    for image in result:
        hole = image[0] != 255
        assert (image[:, hole] == zero).all() and (image[:, ~hole] == 255).all()
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns and size // 2 <= min(rows, columns) and max(rows, columns) <= size
        sides.append(rows)
    assert max(sides) == size and min(sides) < size


def test_roll_shifts_all_frames_alike() -> None:
    x = samples(FRAMES, 150)
    result = Augment(["event-roll5"], FRAMES, 0).for_epoch(0, 150)(x, np.arange(150))
    shifts = [(dy, dx) for dy in range(-5, 6) for dx in range(-5, 6)]
    seen = set()
    for clip, rolled in zip(x, result, strict=True):
        found = [s for s in shifts if np.array_equal(np.roll(clip[0, 0], s, (0, 1)), rolled[0, 0])]
        assert len(found) == 1
        np.testing.assert_array_equal(np.roll(clip, found[0], (2, 3)), rolled)
        seen.add(found[0])
    assert len(seen) > 70


def test_autoaugment_policy_and_magnitudes() -> None:
    assert len(POLICY) == 25
    steps = [step for pair in POLICY for step in pair]
    assert {step.operation for step in steps} == set(_OPERATIONS)
    assert all(0 <= step.probability <= 1 and 0 <= step.level <= 9 for step in steps)
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    pixels = np.asarray(image)
    fill = (1, 2, 3)

    def run(name: str, value: float) -> np.ndarray:
        return np.asarray(_OPERATIONS[name].apply(image, value, fill))

    np.testing.assert_array_equal(run("invert", 0), 255 - pixels)
    np.testing.assert_array_equal(run("posterize", 5), pixels & 0b11111000)
    np.testing.assert_array_equal(run("solarize", 128), np.where(pixels < 128, pixels, 255 - pixels))
    np.testing.assert_array_equal(run("equalize", 0), np.asarray(ImageOps.equalize(image)))
    for name in (
        "brightness",
        "color",
        "contrast",
        "sharpness",
        "rotate",
        "shear-y",
        "translate-x",
        "translate-y",
    ):
        np.testing.assert_array_equal(run(name, 0.0), pixels, err_msg=name)
        assert not np.array_equal(run(name, _OPERATIONS[name].high), run(name, -_OPERATIONS[name].high)), name
    moved = run("translate-x", 8 / 32)
    np.testing.assert_array_equal(moved[:, :24], pixels[:, 8:])
    assert (moved[:, 24:] == fill).all()
    np.testing.assert_array_equal(run("translate-y", -8 / 32)[8:], pixels[:24])


def test_chain_applies_in_order_with_separate_randomness() -> None:
    x, index = samples(COLOUR), np.arange(N)
    names = ["crop4", "flip", "cutout8"]
    chain = Augment(names, COLOUR, 3).for_epoch(1, N)(x, index)
    assert not np.array_equal(chain, Augment(names[::-1], COLOUR, 3).for_epoch(1, N)(x, index))
    np.testing.assert_array_equal(Augment([], COLOUR, 3).for_epoch(1, N)(x, index), x)
    twice = Augment(["flip", "flip"], COLOUR, 3).for_epoch(1, N)(x, index)
    assert not np.array_equal(twice, x)  # the second flip does not undo the first


@pytest.mark.parametrize(
    ("names", "spec", "message"),
    [
        (["crop3"], COLOUR, "unknown augmentation 'crop3'; accepted: autoaugment-cifar10, crop1, "),
        ("flip", COLOUR, "must be a list of names"),
        (["flip"], FRAMES, r"'flip' works on images; frames samples are \(3, 2, 34, 34\)"),
        (["event-flip"], COLOUR, "'event-flip' works on event frames"),
        (["cutout16"], DataSpec("s", (3, 16, 16), ("a",), (0, 0, 0), 1.0), "at least 17 pixels a side"),
        (["autoaugment-cifar10"], DataSpec("g", (1, 28, 28), ("a",), (0,), 1.0), "takes 3 channels; g has 1"),
    ],
)
def test_refuses_names(names: list[str], spec: DataSpec, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augment(names, spec, 0)


def test_refuses_batches() -> None:
    transform = Augment(["flip"], COLOUR, 0).for_epoch(0, 10)
    x = samples(COLOUR, 4)
    for batch, index in ((x.astype(np.float32), range(4)), (x[:, :, 1:], range(4)), (x, range(3))):
        with pytest.raises(DataError, match="accepted: uint8"):
            transform(batch, np.array(index))
    for index in ([0, 1, 2, 10], [-1, 0, 1, 2]):
        with pytest.raises(DataError, match=r"sample indices .*; accepted: 0 to 9"):
            transform(x, np.array(index))


def test_an_epoch_is_cheap() -> None:
    spec = DataSpec("grey", (1, 28, 28), ("a",), (73,), 0.01)
    x = np.zeros((128, 1, 28, 28), np.uint8)
    transform = Augment(["crop4", "flip", "cutout8"], spec, 0).for_epoch(0, 60_000)
    start = time.process_time()
    for first in range(0, 60_000 - 128, 128):
        transform(x, np.arange(first, first + 128))
    assert time.process_time() - start < 3
