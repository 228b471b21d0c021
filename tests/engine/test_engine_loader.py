"""The loader accepts what was written, and refuses everything else with a reason."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from graph_equality import assert_same_nodes
from graphs import random_graph, random_samples
from loader_files import refused, small
from mutate import assemble, body, repair_header, replace, sections, set_word

from bitspike import _native, engine
from bitspike.deploy import artifact, ir
from bitspike.errors import ArtifactError

# --- what was written comes back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", range(0, 100, 25))
def test_graph_comes_back_field_by_field(start: int) -> None:
    for seed in range(start, start + 25):
        rng = np.random.default_rng([seed, 7])
        graph = random_graph(rng)
        data = artifact.encode(graph, random_samples(rng, graph, 1))
        loaded = engine.load(data).graph()
        assert loaded.time_steps == graph.time_steps and loaded.names == graph.names
        assert loaded.meta == graph.meta and loaded.rates == graph.rates
        assert_same_nodes(loaded, graph)
        assert artifact.encode(loaded, random_samples(np.random.default_rng(0), graph, 0)) == artifact.encode(graph)


def test_crc_agrees_with_the_writer() -> None:
    assert _native.crc32c(b"123456789") == artifact.crc32c(b"123456789") == 0xE3069283
    assert _native.crc32c(b"6789", _native.crc32c(b"12345")) == 0xE3069283


def test_unknown_optional_section_is_skipped_and_a_newer_minor_version_read() -> None:
    data = small()
    engine.load(assemble([*sections(data), (77, 0, b"hello")]))
    engine.load(repair_header(data[:6] + b"\x09\x00" + data[8:]))


# --- the rest of the file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (b"", "META: not JSON"),
        (b"{", "META: not JSON"),
        (b"\xff\xfe", "META: not JSON in UTF-8"),
        (b"[1]", "JSON of type list, accepted: an object"),
        (b"3", "JSON of type int"),
        (b'{"a": ' + b"[" * 100_000, "META"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "META"),
    ],
    ids=["empty", "open", "utf8", "list", "int", "deep", "digits"],
)
def test_bad_meta_is_refused(meta: bytes, message: str) -> None:
    refused(replace(small(), 5, meta), message)


def test_odd_meta_is_read() -> None:
    net = engine.load(replace(small(), 5, b'{"x": NaN, "names": ["a"], "\xc3\xa4": 1e999}'))
    assert math.isnan(net.meta["x"]) and net.meta["ä"] == math.inf
    assert net.names == [f"node{i}" for i in range(5)]
    net = engine.load(replace(small(), 5, b'{"names": ["a", "b", "a", "c", "d"]}'))
    assert net.names == ["a#0", "b", "a#2", "c", "d"]
    assert net.graph().names == ["a", "b", "a", "c", "d"]


def test_memory_limit() -> None:
    data = small()
    need = engine.load(data).memory_bytes
    assert engine.load(data, max_memory=need).memory_bytes == need
    with pytest.raises(ArtifactError, match=r"activations: \d+ bytes on top of \d+ exceed the memory limit of"):
        engine.load(data, max_memory=need - 1)


def test_a_small_file_cannot_claim_much_memory() -> None:
    """65535 x 65535 x 1024 steps of activations from a file of less than 1 kB."""
    wide = [ir.Input(1, 65535, 65535, 1, (0,)), ir.Conv(0, np.ones((60, 1, 1, 1), np.int8), 1)]
    arrays = (np.ones((1, 60), np.int32), np.zeros(60, np.int32), np.zeros(60, np.int32), np.zeros(60, np.uint8))
    wide += [ir.Lif((1,), *arrays, 4, 0), ir.Readout(2, np.zeros((1, 60), np.int8), np.zeros(1, np.int32), 2, True)]
    with pytest.raises(ArtifactError, match=r"node 0 \(Input\): activations of \d+ bytes exceed the memory limit"):
        engine.load(artifact.encode(ir.Graph(1000, wide)))


# --- self-test ------------------------------------------------------------------------------------------------------


def test_self_test_runs_the_stored_vectors() -> None:
    for count in (0, 3):
        net = engine.load(small(test_vectors=count))
        assert net.test_vectors == count and net.self_test() == count


@pytest.mark.parametrize("level", engine.levels())
def test_self_test_notices_tampering(level: str) -> None:
    data = small(test_vectors=2)
    record = (20 + 3 * 4 + 4) // 4
    for word, what in ((1 + record + 5, "logits of test vector 1"), (1 + record - 1, "spikes of test vector 0")):
        stored = struct.unpack_from("<I", body(data, 6), 4 * word)[0]
        net = engine.load(set_word(data, 6, word, stored ^ 1), level=level)
        with pytest.raises(ArtifactError, match=f"self-test failed: .*{what}"):
            net.self_test()
