from __future__ import annotations

import gzip
import io
import lzma
import pickle
import pickletools
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from data_writers import PACK, cifar_batch, tar_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.data import DataError, load
from bitspike.data.safe_pickle import load_pickle

STEMS10 = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def members10() -> dict[str, bytes]:
    return {stem: cifar_batch(20, 10, "labels", seed) for seed, stem in enumerate(STEMS10)}


def members100(subset: bool) -> dict[str, bytes]:
    end = "_subset" if subset else ""
    return {f"{part}{end}": cifar_batch(200, 100, "fine_labels", i) for i, part in enumerate(("train", "test"))}


def write(folder: Path, members: dict[str, bytes], suffix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, data in members.items():
        (folder / f"{stem}{suffix}").write_bytes(PACK[suffix](data))


def write_archive(folder: Path, members: dict[str, bytes], name: str) -> Path:
    inner = {f"{name}/{stem}": data for stem, data in reversed(members.items())}
    path = folder / f"{name}-python.tar.gz"
    path.write_bytes(tar_bytes({f"{name}/readme.html": b"hello", **inner}, "w:gz"))
    return path


def expected(members: dict[str, bytes], stems: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([pickle.loads(members[s])[b"data"] for s in stems]).reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("suffix", [*PACK, "archive"])
@pytest.mark.parametrize("place", ["", "cifar10"])
def test_cifar10_packings(tmp_path: Path, suffix: str, place: str) -> None:
    members = members10()
    if suffix == "archive":
        (tmp_path / place).mkdir(exist_ok=True)
        write_archive(tmp_path / place, members, "cifar-10")
    else:
        write(tmp_path / place, members, suffix)
    data = load("cifar10", tmp_path, validation_fraction=0)
    np.testing.assert_array_equal(data.train.inputs, expected(members, STEMS10[:5]))
    np.testing.assert_array_equal(data.test.inputs, expected(members, STEMS10[5:]))
    np.testing.assert_array_equal(data.train.labels, np.tile(np.arange(20) % 10, 5))


@pytest.mark.parametrize("subset", [False, True], ids=["full", "subset"])
@pytest.mark.parametrize("suffix", PACK)
def test_cifar100_says_which_it_is(tmp_path: Path, subset: bool, suffix: str) -> None:
    write(tmp_path / "cifar100", members100(subset), suffix)
    data = load("cifar100", tmp_path)
    assert data.spec.name == ("cifar100-subset" if subset else "cifar100")
    assert data.spec.num_classes == 100 and len(data.test) == 200
    assert np.bincount(data.test.labels).tolist() == [2] * 100


def test_cifar100_archive_wins_over_subset(tmp_path: Path) -> None:
    write(tmp_path, members100(True), "")
    write_archive(tmp_path, members100(False), "cifar-100")
    assert load("cifar100", tmp_path).spec.name == "cifar100"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_pickle_protocol(protocol: int, order: str) -> None:
    array = np.asarray(np.arange(12, dtype=np.uint8).reshape(3, 4), order=order)  # type: ignore[call-overload]
    result = load_pickle(pickle.dumps({"data": array, "n": [1, 2]}, protocol=protocol), "f")
    np.testing.assert_array_equal(result["data"], array)
    assert result["n"] == [1, 2]


class Call:
    """Pickles into a call of any function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "created"
    for function, *arguments in (
        (open, str(target), "w"),
        (eval, f"open({str(target)!r}, 'w')"),
        (exec, "1"),
    ):
        data = pickle.dumps({"data": Call(function, *arguments)}, protocol=protocol)
        with pytest.raises(
            DataError, match=r"bad-file: .*it asks for (builtins|__builtin__|io|_io)\.\w+, which no data file"
        ):
            load_pickle(data, "bad-file")
    assert not target.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "EOFError|Ran out"),
        (b"not a pickle", "not a readable data pickle"),
        (pickle.dumps([1]), "holds a list, not a dictionary"),
        (pickle.dumps({"data": np.zeros(3)}), "f8"),
        (pickle.dumps({"data": np.array([{}], object)}), "O8"),
        (pickle.dumps({"data": np.str_("a")}), "numpy"),
        # a memo index of 2**31: must not be believed
        (b"\x80\x02}r\x00\x00\x00\x80U\x01a.", "not a"),
        # a byte array that claims 2**40 bytes
        (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.", "not a|holds a"),
        # state set on one of the known functions
        (b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\n}U\x01bK\x01sbs.", "tries to change"),
        (b"\x80\x02}U\x01acnumpy\nndarray\n)Rs.", "not callable"),
        (b"\x80\x02}U\x01ac_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0bz2\x86Rs.", "accepted: latin1"),
    ],
    ids=["empty", "text", "list", "float", "object", "scalar", "memo", "claim", "state", "call", "codec"],
)
def test_bad_pickles(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"f: .*({message})"):
        load_pickle(data, "f")


SMALL = pickle.dumps({b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [0, 1]}, protocol=2)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_any_changed_byte_is_an_error_or_a_plain_value(position: int, value: int) -> None:
    damaged = SMALL[:position] + bytes([value]) + SMALL[position + 1 :]
    with suppress(DataError):
        load_pickle(damaged, "f")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([op.code.encode("latin1") for op in pickletools.opcodes]), max_size=8),
    st.binary(max_size=12),
)
def test_any_opcodes(codes: list[bytes], rest: bytes) -> None:
    with suppress(DataError):
        load_pickle(b"".join(codes) + rest, "f")


def replaced(**changes: object) -> bytes:
    content = pickle.loads(cifar_batch(20, 10, "labels"))
    for key, value in changes.items():
        if value is None:
            del content[key.encode()]
        else:
            content[key.encode()] = value
    return pickle.dumps(content, protocol=2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (replaced(data=None), "has no 'data'; it holds filenames, labels"),
        (replaced(labels=None), "has no 'labels'"),
        (
            replaced(data=np.zeros((20, 3071), np.uint8)),
            r"'data' is \(20, 3071\); accepted: uint8 \(N, 3072\)",
        ),
        (replaced(data=b"abc"), "'data' is bytes"),
        (replaced(labels=[0] * 19), "19 labels for 20 images"),
        (replaced(labels=[0] * 19 + [10]), "label 10; accepted: 0 to 9"),
        (replaced(labels=[-1] * 20), "label -1"),
        (replaced(labels=["0"] * 20), "not a list of integers"),
        (replaced(labels=b"0" * 20), "not a list of integers"),
    ],
)
def test_wrong_contents(tmp_path: Path, data: bytes, message: str) -> None:
    write(tmp_path, {**members10(), "data_batch_3": data}, "")
    with pytest.raises(DataError, match=f"data_batch_3: .*{message}"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.9999])
def test_truncated_batch(tmp_path: Path, suffix: str, keep: float) -> None:
    write(tmp_path, members10(), suffix)
    path = tmp_path / f"test_batch{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=path.name):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("suffix", PACK)
def test_missing_batch(tmp_path: Path, suffix: str) -> None:
    members = members10()
    del members["data_batch_2"]
    write(tmp_path, members, suffix)
    with pytest.raises(DataError, match=r"missing file .*data_batch_2"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 0.2, 0.8, -4])
def test_truncated_archive(tmp_path: Path, keep: float) -> None:
    path = write_archive(tmp_path, members10(), "cifar-10")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=path.name):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("place", [0.25, 0.5, 0.75])
def test_flipped_archive_bit_is_noticed(tmp_path: Path, place: float) -> None:
    path = write_archive(tmp_path, members10(), "cifar-10")
    damaged = bytearray(path.read_bytes())
    damaged[int(len(damaged) * place)] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=path.name):
        load("cifar10", tmp_path)


def test_archive_without_a_batch(tmp_path: Path) -> None:
    members = members10()
    del members["test_batch"]
    write_archive(tmp_path, members, "cifar-10")
    with pytest.raises(DataError, match=r"tar\.gz: does not hold test_batch"):
        load("cifar10", tmp_path)


def test_archive_that_is_something_else(tmp_path: Path) -> None:
    for data in (b"hello", gzip.compress(b"hello" * 500), lzma.compress(b"x"), io.BytesIO().getvalue()):
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(data)
        with pytest.raises(DataError, match=r"tar\.gz: (cannot be read as a tar|does not hold)"):
            load("cifar10", tmp_path)
