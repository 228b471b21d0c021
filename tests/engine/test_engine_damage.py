"""Damaged files are refused, or load and run: flipped, cut and lengthened, and with their checksums repaired."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from graphs import random_graph, random_samples
from loader_files import accepted_or_refused, refused, small
from mutate import assemble, repair_header, sections, set_record

from bitspike import engine
from bitspike.deploy import artifact
from bitspike.errors import ArtifactError


def test_every_flipped_byte_is_refused() -> None:
    data = small(test_vectors=1)
    rng = np.random.default_rng(0)
    for position in range(len(data)):
        for flip in {1 << int(rng.integers(8)), int(rng.integers(1, 256)), 255}:
            damaged = bytearray(data)
            damaged[position] ^= flip
            with pytest.raises(ArtifactError):
                engine.load(bytes(damaged))


def test_every_truncation_is_refused() -> None:
    data = small(test_vectors=1)
    for length in range(len(data)):
        for damaged in (data[:length], repair_header(data[:length]) if length >= 24 else b""):
            with pytest.raises(ArtifactError):
                engine.load(damaged)


def test_appended_bytes_are_refused() -> None:
    data = small()
    for extra in (b"\0", b"\0" * 8, b"x", data):
        refused(data + extra, "file length")
        refused(repair_header(data + extra), "left over")


def test_random_damage_is_refused() -> None:
    rng = np.random.default_rng(1)
    data = small(test_vectors=1)
    for _ in range(4000):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), int(rng.integers(1, 9))):
            damaged[position] = int(rng.integers(256))
        if bytes(damaged) != data:
            with pytest.raises(ArtifactError):
                engine.load(bytes(damaged))


EXTREMES = (
    0,
    1,
    2,
    3,
    5,
    15,
    16,
    24,
    25,
    127,
    128,
    255,
    256,
    1024,
    1025,
    4096,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
)


def _corpus() -> list[bytes]:
    files = [small(test_vectors=1)]
    for seed in range(40):
        rng = np.random.default_rng([seed, 3])
        graph = random_graph(rng, max_nodes=4)
        files.append(artifact.encode(graph, random_samples(rng, graph, seed % 2)))
    return [f for f in files if len(f) < 4000]


@pytest.mark.parametrize("seed", range(6))
def test_changed_bodies_with_repaired_checksums(seed: int) -> None:
    rng = np.random.default_rng([seed, 11])
    corpus = _corpus()
    loaded = 0
    for case in range(2000):
        parts = sections(corpus[int(rng.integers(len(corpus)))])
        index = int(rng.integers(len(parts)))
        kind, flags, content = parts[index]
        new = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            if case % 4 == 0:  # a length that lies about what the graph needs
                new = new[: int(rng.integers(len(new) + 1))] + bytes(int(rng.integers(3)) * 4)
            elif case % 4 == 1 and new:
                new[int(rng.integers(len(new)))] ^= int(rng.integers(1, 256))
            elif len(new) >= 4:
                at = 4 * int(rng.integers(len(new) // 4))
                new[at : at + 4] = struct.pack("<I", int(rng.choice(EXTREMES)))
        parts[index] = (kind, flags, bytes(new))
        loaded += accepted_or_refused(assemble(parts))
    assert 0 < loaded < 2000


def test_every_record_word_with_every_extreme_value() -> None:
    data = small()
    for node in range(5):
        for word in range(16):
            for value in EXTREMES:
                accepted_or_refused(set_record(data, node, word, value))


def test_changed_headers_and_tables_with_repaired_checksums() -> None:
    rng = np.random.default_rng(2)
    data = small(test_vectors=1)
    table_end = 24 + 32 * 6
    for _ in range(4000):
        damaged = bytearray(data)
        if rng.random() < 0.5:
            damaged[int(rng.integers(table_end))] ^= int(rng.integers(1, 256))
        else:
            at = 4 * int(rng.integers(4, table_end // 4))
            damaged[at : at + 4] = struct.pack("<I", int(rng.choice(EXTREMES)))
        accepted_or_refused(repair_header(bytes(damaged)))
