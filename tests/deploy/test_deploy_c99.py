"""The emitted C, compiled for this machine with sanitizers, equals the reference on every spike and logit."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import c99_graphs as cases
import numpy as np
import pytest
from c99_host import SANITIZED, STRICT, build, channel_bits, compiler, expected, outputs

from bitspike.deploy import c99, ir, reference

CC = compiler("gcc", "cc", "clang")
pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler (gcc, cc or clang)")
SAMPLES = 2


def assert_exact(graph: ir.Graph, folder: Path, *, streaming: bool = False, seed: int = 0) -> None:
    assert CC is not None
    samples = cases.random_samples(np.random.default_rng(seed), graph, SAMPLES)
    samples[-1] = 255
    wanted = expected(graph, samples, streaming=streaming)
    got = outputs(build(graph, folder, CC, SANITIZED, streaming=streaming), samples)
    assert len(got) == len(wanted)
    assert got == wanted, f"{sum(a != b for a, b in zip(got, wanted, strict=True))} of {len(got)} bytes differ"


@pytest.mark.parametrize("extreme", [False, True], ids=["random", "extreme"])
@pytest.mark.parametrize("seed", range(7))
def test_random_graphs(seed: int, extreme: bool, tmp_path: Path) -> None:
    graph = cases.random_graph(np.random.default_rng([seed, extreme]), extreme=extreme, max_nodes=6)
    assert_exact(graph, tmp_path, streaming=(seed + extreme) % 2 == 1)


@pytest.mark.parametrize("streaming", [False, True], ids=["sequence", "streaming"])
@pytest.mark.parametrize("frames", [False, True], ids=["static", "frames"])
def test_channel_counts_and_all_bits(frames: bool, streaming: bool, tmp_path: Path) -> None:
    """Around words of 8, 16 and 32 lanes; T = 6 takes chunks of 3 steps, with membranes kept between them."""
    channels, bits = [1, 7, 8, 9, 17, 24, 31, 33, 40, 5], [8, 1, 2, 3, 4, 5, 6, 7, 8, 1]
    graph = cases.chain(np.random.default_rng(frames), channels, bits, steps=6, frames=frames, side=2)
    assert_exact(graph, tmp_path, streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True], ids=["sequence", "streaming"])
def test_odd_levels_at_channel_counts_and_all_bits(streaming: bool, tmp_path: Path) -> None:
    channels, bits = [3, 7, 8, 9, 17, 24, 31, 33, 2], [8, 7, 2, 3, 4, 5, 6, 8, 8]
    graph = cases.chain(np.random.default_rng(0), channels, bits, steps=3, frames=streaming, side=2, odd=True)
    assert_exact(graph, tmp_path, streaming=streaming)


@pytest.mark.parametrize(("bits", "odd"), [*((b, False) for b in range(1, 9)), *((b, True) for b in range(2, 9))])
def test_low_bits_on_the_input_of_one_pixel(bits: int, odd: bool, tmp_path: Path) -> None:
    rng, frames = np.random.default_rng(bits), bits % 2 == 0
    graph = cases.chain(rng, [6, 5], [bits, bits], steps=bits, frames=frames, side=1, odd=odd)
    assert_exact(graph, tmp_path)


@pytest.mark.parametrize(("bits", "odd"), [(1, False), (4, False), (3, True), (8, True)])
def test_groups(bits: int, odd: bool, tmp_path: Path) -> None:
    assert_exact(cases.grouped(np.random.default_rng(bits), bits, odd), tmp_path, streaming=bits == 4)


@pytest.mark.parametrize(("channels", "heads"), [(24, 3), (15, 3), (33, 1)])
def test_attention(channels: int, heads: int, tmp_path: Path) -> None:
    assert_exact(cases.heads(np.random.default_rng(channels), channels, heads), tmp_path)


@pytest.mark.parametrize("case", ["tall_counts", "long_lists"])
def test_wide_values(case: str, tmp_path: Path) -> None:
    assert_exact(getattr(cases, case)(np.random.default_rng(1)), tmp_path)


def test_sums_that_wrap(tmp_path: Path) -> None:
    assert_exact(cases.edge_of_32_bits(), tmp_path)


def test_a_stream_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """2T steps without a reset are the network of 2T steps."""
    assert CC is not None
    graph = cases.chain(np.random.default_rng(5), [9, 12], [8, 3], steps=3, frames=True)
    longer = ir.Graph(6, [ir.Input(2, 4, 5, 6, (3, 200)), *graph.nodes[1:]])
    samples = cases.random_samples(np.random.default_rng(6), longer, 1)
    build(graph, tmp_path, CC, SANITIZED, streaming=True)
    driver = (tmp_path / "main.c").read_text().replace("        net_reset();\n", "")
    (tmp_path / "main.c").write_text(driver)
    command = [CC, *STRICT, *SANITIZED, "-Dnet_TRACE", "net.c", "main.c", "-o", "net"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert outputs(tmp_path / "net", samples) == expected(longer, samples, streaming=True)


def test_the_portable_forms(tmp_path: Path) -> None:
    """What stands in for a shift that keeps the sign and for a count of leading zeros, on compilers that lack them."""
    assert CC is not None
    graph = cases.grouped(np.random.default_rng(7), 2)
    samples = cases.random_samples(np.random.default_rng(7), graph, SAMPLES)
    build(graph, tmp_path, CC, SANITIZED)
    source = (tmp_path / "net.c").read_text()
    for condition in ("#if (-1 >> 1) == -1 &&", "#if defined(__GNUC__) && (defined(__ARM_FEATURE_CLZ)"):
        assert source.count(condition) == 1
        source = source.replace(condition, condition.replace("#if ", "#if 0 && "))
    assert ">= 0 ? v >> k" in source
    (tmp_path / "net.c").write_text(source)
    command = [CC, *STRICT, *SANITIZED, "-Dnet_TRACE", "net.c", "main.c", "-o", "net"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert outputs(tmp_path / "net", samples) == expected(graph, samples)


@pytest.mark.parametrize("optimize", ["-O0", "-O3", "-Os"])
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_symbol_is_left_undefined(name: str, optimize: str, tmp_path: Path) -> None:
    """No memset, no memcpy, no compiler support routine: the object can be linked without any library."""
    if (cc := compiler(name)) is None:
        pytest.skip(f"{name} is not installed")
    graph = cases.grouped(np.random.default_rng(0), 3)
    for streaming in (False, True):
        c99.export(graph, tmp_path, name="net", streaming=streaming)
        command = [cc, *STRICT, optimize, "-fno-stack-protector", "-c", "net.c", "-o", "net.o"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
        listed = subprocess.run(["nm", "-u", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert listed.stdout.split() == []


@pytest.mark.parametrize("streaming", [False, True], ids=["sequence", "streaming"])
@pytest.mark.parametrize("change", ["no spikes at one step", "another logit"])
def test_the_self_test_notices_a_change(change: str, streaming: bool, tmp_path: Path) -> None:
    assert CC is not None
    graph = cases.chain(np.random.default_rng(2), [8, 8], [8, 4], steps=4, frames=False)
    build(graph, tmp_path, CC, ["-O1"], streaming=streaming)
    source = (tmp_path / "net.c").read_text()
    if change == "another logit":
        changed = re.sub(r"(int\d+_t bias_5\[7\] = \{\s*)", r"\g<1>1 + ", source)
    else:
        changed = source.replace("bits_0 |= 0x80u", "bits_0 |= 0x00u", 1)
    assert changed != source
    (tmp_path / "net.c").write_text(changed)
    subprocess.run([CC, "-Dnet_TRACE", "net.c", "main.c", "-o", "net"], cwd=tmp_path, check=True, timeout=120)
    assert subprocess.run([tmp_path / "net"], input=b"", timeout=60).returncode == 11


def test_the_traced_bytes_are_channel_bits(tmp_path: Path) -> None:
    """The layout that users of the trace rely on, written out once without packbits."""
    graph = cases.chain(np.random.default_rng(3), [11], [8], steps=2, frames=False)
    samples = cases.random_samples(np.random.default_rng(3), graph, 1)
    spikes = reference.run(graph, samples).spikes[2][:, 0]  # (T, C, H, W)
    packed = channel_bits(spikes)
    for t, c, y, x in np.ndindex(*spikes.shape):
        assert packed[t, y, x, c // 8] >> (c % 8) & 1 == spikes[t, c, y, x]
    assert 0 < spikes.sum() < spikes.size
