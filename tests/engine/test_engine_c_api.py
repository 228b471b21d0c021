"""The engine as a C library: results, errors, symbols, header, size."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from graphs import random_graph, random_samples
from mutate import assemble, sections
from native_build import ROOT, compiler
from tests.engine.fuzz_graphs import make_case

from bitspike import engine
from bitspike.deploy import artifact, ir, reference

MAX_LIBRARY_BYTES = 200_000
OK, FILE, FORMAT, ARGUMENT, SELF_TEST = range(5)


class Shape(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in "time_steps frames channels height width classes".split()),
        *((name, ctypes.c_uint32) for name in ("spike_layers", "test_vectors")),
        *((name, ctypes.c_uint64) for name in ("sample_bytes", "file_bytes", "memory_bytes")),
    ]


@pytest.fixture(scope="module")
def lib(built: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(next(p for p in built.glob("libbitspike.*") if p.suffix in (".so", ".dylib"))))
    for name in ("bitspike_version", "bitspike_error", "bitspike_level", "bitspike_level_name"):
        getattr(lib, name).restype = ctypes.c_char_p
    lib.bitspike_load.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_void_p]
    lib.bitspike_load_file.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_void_p]
    for name in ("bitspike_run", "bitspike_run_steps", "bitspike_trace", "bitspike_spike_checksums"):
        getattr(lib, name).argtypes = [*(ctypes.c_void_p,) * 2, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint]
    for name in ("bitspike_free", "bitspike_level", "bitspike_self_test"):
        getattr(lib, name).argtypes = [ctypes.c_void_p]
    lib.bitspike_get_shape.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    lib.bitspike_spike_bytes.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    lib.bitspike_spike_bytes.restype = ctypes.c_uint64
    lib.bitspike_describe.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.bitspike_describe.restype = ctypes.c_size_t
    return lib


class Net:
    """A network behind the C interface."""

    def __init__(self, lib: ctypes.CDLL, data: bytes, level: str | None = None) -> None:
        self.lib, self.handle, self.shape = lib, ctypes.c_void_p(), Shape()
        status = lib.bitspike_load(data, len(data), level and level.encode(), 0, ctypes.byref(self.handle))
        assert status == OK, lib.bitspike_error()
        lib.bitspike_get_shape(self.handle, ctypes.byref(self.shape))

    def call(self, name: str, x: np.ndarray, out: np.ndarray, threads: int = 1) -> np.ndarray:
        status = getattr(self.lib, name)(self.handle, x.ctypes.data, len(x), out.ctypes.data, threads)
        assert status == OK, self.lib.bitspike_error()
        return out

    def run(self, x: np.ndarray, threads: int = 1) -> np.ndarray:
        return self.call("bitspike_run", x, np.full((len(x), self.shape.classes), -1, np.int32), threads)

    def steps(self, x: np.ndarray, threads: int = 1) -> np.ndarray:
        out = np.empty((len(x), self.shape.time_steps, self.shape.classes), np.int32)
        return self.call("bitspike_run_steps", x, out, threads).swapaxes(0, 1)

    def spikes(self, x: np.ndarray, threads: int = 1) -> list[np.ndarray]:
        sizes = [self.lib.bitspike_spike_bytes(self.handle, i) for i in range(self.shape.spike_layers)]
        layers = [np.empty((len(x), size), np.uint8) for size in sizes]
        pointers = (ctypes.c_void_p * len(layers))(*(layer.ctypes.data for layer in layers))
        status = self.lib.bitspike_trace(self.handle, x.ctypes.data, len(x), pointers, threads)
        assert status == OK, self.lib.bitspike_error()
        return layers


@pytest.mark.parametrize("level", [None, *engine.levels()])
def test_equals_the_reference_and_the_python_engine(lib: ctypes.CDLL, level: str | None) -> None:
    for seed in range(25):
        rng = np.random.default_rng([seed, 41])
        graph = random_graph(rng)
        x = random_samples(rng, graph, 3)
        expected, data = reference.run(graph, x), artifact.encode(graph, x)
        net = Net(lib, data, level)
        assert lib.bitspike_level(net.handle).decode() == (level or engine.load(data).level)
        crcs = np.empty(3, np.uint32)
        for threads in (1, 2, 0):
            np.testing.assert_array_equal(net.run(x, threads), expected.logits)
            np.testing.assert_array_equal(net.steps(x, threads), expected.steps)
            for layer, spikes in zip(
                net.spikes(x, threads), (s for _, s in sorted(expected.spikes.items())), strict=True
            ):
                np.testing.assert_array_equal(layer, spikes.swapaxes(0, 1).reshape(3, -1))
            net.call("bitspike_spike_checksums", x, crcs, threads)
            for i, crc in enumerate(crcs):
                trace = b"".join(s[:, i].tobytes() for _, s in sorted(expected.spikes.items()))
                assert crc == artifact.crc32c(trace)
        np.testing.assert_array_equal(engine.load(data, level=level).run(x), net.run(x))
        assert lib.bitspike_self_test(net.handle) == OK and net.shape.test_vectors == 3
        lib.bitspike_free(net.handle)


def test_streams_and_products_equal_the_reference(lib: ctypes.CDLL) -> None:
    for seed in range(40):
        case = make_case(seed)
        expected, net = reference.run(case.graph, case.samples), Net(lib, case.data)
        for threads in (1, 2):
            np.testing.assert_array_equal(net.run(case.samples, threads), expected.logits)
            np.testing.assert_array_equal(net.steps(case.samples, threads), expected.steps)
        layers = [s.swapaxes(0, 1).reshape(len(case.samples), -1) for _, s in sorted(expected.spikes.items())]
        for layer, spikes in zip(net.spikes(case.samples), layers, strict=True):
            np.testing.assert_array_equal(layer, spikes)
        assert lib.bitspike_self_test(net.handle) == OK
        lib.bitspike_free(net.handle)


def test_shape_and_description(lib: ctypes.CDLL, example: tuple[ir.Graph, np.ndarray]) -> None:
    data = artifact.encode(example[0])
    net = Net(lib, data)
    s = net.shape
    assert (s.time_steps, s.frames, s.channels, s.height, s.width, s.classes) == (3, 1, 3, 5, 4, 4)
    assert (s.spike_layers, s.test_vectors, s.sample_bytes, s.file_bytes) == (1, 0, 60, len(data))
    assert s.memory_bytes == engine.load(data).memory_bytes
    assert lib.bitspike_spike_bytes(net.handle, 0) == 3 * 17 * 20 and lib.bitspike_spike_bytes(net.handle, 1) == 0
    size = lib.bitspike_describe(net.handle, None, 0)
    text = ctypes.create_string_buffer(size)
    assert lib.bitspike_describe(net.handle, text, size) == size == len(text.value) + 1
    assert "1 Conv of 0: 17x5x4, kernel 3x3, stride 1, padding 1, 4-bit weights\n" in text.value.decode()
    assert lib.bitspike_describe(net.handle, text, 9) == size and len(text.value) == 8
    levels = [lib.bitspike_level_name(i) for i in range(len(engine.levels()) + 1)]
    assert levels == [*(name.encode() for name in engine.levels()), None]
    assert re.fullmatch(rb"\d+\.\d+\.\d+", lib.bitspike_version())
    assert lib.bitspike_cpus() == len(os.sched_getaffinity(0))


def test_errors_are_codes_and_sentences(lib: ctypes.CDLL, example: tuple[ir.Graph, np.ndarray], tmp_path: Path) -> None:
    graph, x = example
    data = artifact.encode(graph, x)
    handle = ctypes.c_void_p(7)
    out = ctypes.byref(handle)

    def failed(status: int, expected: int, *words: str) -> None:
        assert status == expected
        for word in words:
            assert word in lib.bitspike_error().decode()

    failed(lib.bitspike_load(data[:-1], len(data) - 1, None, 0, out), FORMAT, "file length is")
    assert handle.value is None
    failed(lib.bitspike_load(None, 0, None, 0, out), FORMAT, "magic")
    failed(lib.bitspike_load(None, 5, None, 0, out), ARGUMENT, "data is NULL")
    failed(lib.bitspike_load(data, len(data), b"neon9", 0, out), ARGUMENT, "neon9", "portable")
    failed(lib.bitspike_load(data, len(data), None, 0, None), ARGUMENT, "network is NULL")
    failed(lib.bitspike_load(data, len(data), None, 100, out), FORMAT, f"{len(data)} bytes exceed", "100 bytes")
    failed(lib.bitspike_load_file(None, None, 0, out), ARGUMENT, "path is NULL")
    failed(lib.bitspike_load_file(b"/nowhere/x.bspk", None, 0, out), FILE, "/nowhere/x.bspk", "No such file")
    failed(lib.bitspike_load_file(os.fsencode(tmp_path), None, 0, out), FILE, "directory")
    garbage = tmp_path / "garbage.bspk"
    garbage.write_bytes(b"BSPK" + bytes(100))
    failed(lib.bitspike_load_file(os.fsencode(garbage), None, 0, out), FORMAT, str(garbage), "header")
    failed(lib.bitspike_load_file(os.fsencode(garbage), None, 50, out), FORMAT, str(garbage), "memory limit of 50")
    assert handle.value is None

    net, logits = Net(lib, data), np.empty((3, 4), np.int32)
    failed(lib.bitspike_run(net.handle, None, 1, logits.ctypes.data, 1), ARGUMENT, "samples is NULL")
    failed(lib.bitspike_run(net.handle, x.ctypes.data, 1, None, 1), ARGUMENT, "output is NULL")
    failed(lib.bitspike_run(None, x.ctypes.data, 1, logits.ctypes.data, 1), ARGUMENT, "network is NULL")
    assert lib.bitspike_run(net.handle, None, 0, None, 1) == OK
    spikes = (ctypes.c_void_p * 1)(None)
    failed(lib.bitspike_trace(net.handle, x.ctypes.data, 1, spikes, 1), ARGUMENT, "spikes of a layer is NULL")
    stored = bytearray(data)
    at = stored.rfind(reference.run(graph, x).logits[-1].tobytes())
    stored[at] ^= 1
    tampered = Net(lib, assemble(sections(bytes(stored))))
    failed(lib.bitspike_self_test(tampered.handle), SELF_TEST, "logits of test vector 2")
    lib.bitspike_free(None)


def test_errors_belong_to_their_thread(lib: ctypes.CDLL) -> None:
    handle, texts = ctypes.c_void_p(), []
    assert lib.bitspike_load_file(b"/mine", None, 0, ctypes.byref(handle)) == FILE

    def other() -> None:
        texts.append(lib.bitspike_error())
        lib.bitspike_load_file(b"/other", None, 0, ctypes.byref(ctypes.c_void_p()))
        texts.append(lib.bitspike_error())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert texts[0] == b"" and b"/other" in texts[1] and b"/mine" in lib.bitspike_error()


def test_exports_nothing_but_the_interface(built: Path) -> None:
    header = (ROOT / "native" / "bitspike.h").read_text()
    declared = set(re.findall(r"^BITSPIKE_API [^;]*?\b(bitspike_\w+)\(", header, re.MULTILINE))
    nm = compiler("nm")
    done = subprocess.run(
        [nm, "-D", "--defined-only", built / "libbitspike.so"], capture_output=True, text=True, check=True
    )
    assert {line.split()[-1] for line in done.stdout.splitlines()} == declared
    assert len(declared) == 16


def test_stripped_library_is_small(built: Path, tmp_path: Path) -> None:
    strip, target = compiler("strip"), tmp_path / "libbitspike.so"
    subprocess.run([strip, "-o", target, built / "libbitspike.so"], check=True)
    assert target.stat().st_size < MAX_LIBRARY_BYTES


@pytest.mark.parametrize("standard", ["c90", "c99", "c11"])
def test_a_c_program(built: Path, example: tuple[ir.Graph, np.ndarray], tmp_path: Path, standard: str) -> None:
    graph, _ = example
    artifact.save(graph, tmp_path / "net.bspk")
    warnings = ["-Wall", "-Wextra", "-Werror", "-pedantic", f"-std={standard}"]
    paths = ["-I", ROOT / "native", Path(__file__).with_name("c_client.c"), "-L", built, "-lbitspike"]
    command = [compiler("cc", "gcc", "clang"), *warnings, *paths, f"-Wl,-rpath,{built}", "-o", tmp_path / "client"]
    subprocess.run(command, check=True)
    done = subprocess.run([tmp_path / "client", tmp_path / "net.bspk"], capture_output=True, text=True, check=True)
    logits = reference.run(graph, np.zeros((1, 3, 5, 4), np.uint8)).logits[0]
    assert done.stdout == " ".join(map(str, logits)) + " \n1\nsamples is NULL\n"
    done = subprocess.run([tmp_path / "client", "/nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == "/nowhere: cannot be read (No such file or directory)\n"


def test_the_header_is_valid_cpp(tmp_path: Path) -> None:
    source = tmp_path / "include.cpp"
    source.write_text('#include "bitspike.h"\n')
    command = [compiler("c++", "g++", "clang++"), "-std=c++11", "-Wall", "-Werror", "-pedantic", "-fsyntax-only"]
    subprocess.run([*command, "-I", ROOT / "native", source], check=True)
