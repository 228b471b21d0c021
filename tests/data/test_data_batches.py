from __future__ import annotations

import numpy as np
import pytest

from bitspike.data import Augment, DataError, DataSpec, Split, epoch_batches, num_batches

N = 103
SPEC = DataSpec("toy", (1, 12, 12), ("a", "b"), (7,), 0.1)
SPLIT = Split(
    np.random.default_rng(0).integers(0, 256, (N, 1, 12, 12), dtype=np.uint8),
    np.arange(N, dtype=np.int64) % 2,
)


def collect(**options):
    return list(epoch_batches(SPLIT, 16, **{"seed": 0, "epoch": 0, **options}))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_sample_once(drop_last: bool, shuffle: bool) -> None:
    batches = collect(drop_last=drop_last, shuffle=shuffle)
    assert len(batches) == num_batches(N, 16, drop_last=drop_last) == (6 if drop_last else 7)
    indices = np.concatenate([b[2] for b in batches])
    assert len(set(indices)) == len(indices) == (96 if drop_last else N)
    assert np.array_equal(indices, np.arange(len(indices))) != shuffle
    for inputs, labels, index in batches:
        np.testing.assert_array_equal(inputs, SPLIT.inputs[index])
        np.testing.assert_array_equal(labels, SPLIT.labels[index])
        assert not np.shares_memory(inputs, SPLIT.inputs)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(**options) -> list[int]:
        return np.concatenate([b[2] for b in collect(**options)]).tolist()

    np.random.seed(1)
    first = order(seed=4, epoch=2)
    np.random.seed(2)
    assert order(seed=4, epoch=2) == first
    assert order(seed=4, epoch=3) != first and order(seed=5, epoch=2) != first
    wide = np.concatenate([b[2] for b in epoch_batches(SPLIT, 50, seed=4, epoch=2)]).tolist()
    assert wide == first


@pytest.mark.parametrize("world", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_together_are_the_one_process_batch(world: int, drop_last: bool) -> None:
    augment = Augment(["crop2", "flip", "cutout8"], SPEC, 9)
    options = {"epoch": 3, "drop_last": drop_last, "augment": augment}
    single = collect(**options)
    ranks = [collect(**options, rank=rank, world_size=world) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(single)}
    for step, whole in enumerate(single):
        for part in range(3):
            joined = np.concatenate([batches[step][part] for batches in ranks])
            np.testing.assert_array_equal(joined, whole[part])
        sizes = [len(batches[step][2]) for batches in ranks]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; accepted: at least 1"),
        ({"batch_size": 2.0}, "batch_size must be an integer, not 2.0"),
        ({"batch_size": 16, "world_size": 3}, "batch_size 16 does not divide among 3"),
        ({"batch_size": 16, "world_size": 0}, "world_size is 0"),
        ({"batch_size": 16, "world_size": 2, "rank": 2}, "rank is 2; accepted: 0 to 1"),
        ({"batch_size": 16, "epoch": -1}, "epoch is -1"),
        ({"batch_size": 16, "seed": -1}, "seed is -1"),
    ],
)
def test_refuses_at_the_call(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        epoch_batches(SPLIT, **{"seed": 0, "epoch": 0, **options})


def test_empty_split() -> None:
    assert list(epoch_batches(SPLIT.take(np.arange(0)), 4, seed=0, epoch=0)) == []
