"""The engine without Python: C library, C header, command-line runner."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graphs import random_graph, random_samples, random_weight
from mutate import assemble, sections
from native_build import ROOT, build, compiler

sys.path.insert(0, str(ROOT))
from tests.engine.fuzz_graphs import make_case

from bitspike import engine
from bitspike.deploy import artifact, ir, reference

MAX_LIBRARY_BYTES = 200_000
MAX_RUNNER_KIB = 16 * 1024
OK, FILE, FORMAT, ARGUMENT, SELF_TEST = range(5)


class Shape(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in "time_steps frames channels height width classes".split()),
        *((name, ctypes.c_uint32) for name in ("spike_layers", "test_vectors")),
        *((name, ctypes.c_uint64) for name in ("sample_bytes", "file_bytes", "memory_bytes")),
    ]


@pytest.fixture(scope="module")
def built() -> Path:
    return build("test-shared", "-DBITSPIKE_SHARED=ON")


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


@pytest.fixture
def example() -> tuple[ir.Graph, np.ndarray]:
    """3 x 5 x 4 input, one convolution, 4 classes; three samples."""
    rng = np.random.default_rng(5)
    arrays = [rng.integers(1, 90, 17).astype(np.int32) for _ in range(2)]
    lif = ir.Lif((1,), np.ones((1, 17), np.int32), *arrays, np.zeros(17, np.uint8), 8, 1)
    conv = ir.Conv(0, random_weight(rng, (17, 3, 3, 3), 4), 4, 1, 1)
    readout = ir.Readout(2, random_weight(rng, (4, 17 * 20), 3), np.arange(4, dtype=np.int32), 3)
    graph = ir.Graph(3, [ir.Input(3, 5, 4, 1, (99, 100, 128)), conv, lif, readout])
    return graph, rng.integers(0, 256, (3, 3, 5, 4), np.uint8)


# --- library --------------------------------------------------------------------------------------------------------


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


# --- runner ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(example: tuple[ir.Graph, np.ndarray], tmp_path: Path) -> Path:
    artifact.save(example[0], tmp_path / "net.bspk", example[1])
    return tmp_path / "net.bspk"


def run(built: Path, *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [str(built / "bitspike-run"), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def lines(path: Path | str, logits: np.ndarray) -> str:
    numbers = ((i, row.argmax(), " ".join(map(str, row))) for i, row in enumerate(logits))
    return "".join(f"{path}[{i}] class {best} logits {row}\n" for i, best, row in numbers)


def test_runner_reads_every_format(built: Path, model: Path, example: tuple[ir.Graph, np.ndarray]) -> None:
    (graph, x), folder = example, model.parent
    logits = reference.run(graph, x).logits
    batch, single, raw, image = (folder / name for name in ("batch.npy", "one.npy", "all.raw", "one.ppm"))
    np.save(batch, x)
    np.save(single, x[1])
    raw.write_bytes(x.tobytes())
    image.write_bytes(b"P6\n# a comment\n4 5\n255\n" + x[2].transpose(1, 2, 0).tobytes())
    expected = lines(batch, logits) + lines(single, logits[1:2]) + lines(raw, logits) + lines(image, logits[2:])
    for options in ([], ["--threads", 2], ["--threads", 0], *(["--level", level] for level in engine.levels())):
        done = run(built, model, batch, single, raw, image, *options)
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b"")
    done = run(built, model, "-", stdin=x.tobytes())
    assert (done.returncode, done.stdout.decode()) == (0, lines("-", logits))
    done = run(built, model, "-", stdin=b"")
    assert (done.returncode, done.stdout) == (0, b"")


def test_runner_reads_grey_images_and_frames(built: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for frames in (1, 2):
        lif = ir.Lif((0,), *(np.full(s, 9, np.int32) for s in ((1, 1), 1, 1)), np.zeros(1, np.uint8), 4, 0)
        conv = ir.Conv(0, np.ones((1, 1, 1, 1), np.int8), 1)
        lif = ir.Lif((1,), lif.multiplier, lif.bias, lif.threshold, lif.membrane_shift, 4, 0)
        readout = ir.Readout(2, random_weight(rng, (3, 42), 3), np.zeros(3, np.int32), 3)
        graph = ir.Graph(2, [ir.Input(1, 6, 7, frames, (130,)), conv, lif, readout])
        model, image, array = (tmp_path / name for name in ("net.bspk", "x.pgm", "x.npy"))
        artifact.save(graph, model)
        x = random_samples(rng, graph, 2)
        np.save(array, x)
        image.write_bytes(b"P5 7 6 255\n" + x.reshape(2, -1)[0, :42].tobytes())
        done = run(built, model, array)
        assert done.stdout.decode() == lines(array, reference.run(graph, x).logits)
        done = run(built, model, image)
        if frames == 1:
            assert done.stdout.decode() == lines(image, reference.run(graph, x[:1]).logits)
        else:
            assert done.returncode == 2 and b"network that reads (2, 1, 6, 7), accepted: .raw or .npy" in done.stderr


def test_runner_options(built: Path, model: Path, example: tuple[ir.Graph, np.ndarray]) -> None:
    (graph, x), raw = example, model.parent / "x.raw"
    raw.write_bytes(x.tobytes())
    done = run(built, model, "--info", "--self-test", "--memory")
    text = done.stdout.decode()
    assert done.returncode == 0 and "2 Lif of 1: 17x5x4, 8-bit membrane, leak 1/2^1" in text
    assert "self-test: 3 test vectors agree" in text and re.search(
        r"memory: network \d+ bytes, peak resident \d+ KiB", text
    )
    done = run(built, model, raw, "--checksum", "--time", 3)
    spikes = reference.run(graph, x).spikes[2]
    assert [f"{artifact.crc32c(spikes[:, i].tobytes()):08x}" for i in range(3)] == re.findall(
        r"spikes (\w{8})$", done.stdout.decode(), re.MULTILINE
    )
    assert re.search(rb"time per sample: median [\d.]+ us, best [\d.]+ us \(3 samples, 3 runs", done.stdout)
    assert run(built, "--help").stdout.startswith(b"usage: bitspike-run")
    assert re.fullmatch(rb"bitspike-run \d+\.\d+\.\d+\n", run(built, "--version").stdout)


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body


BAD_FILES = [
    ("x.jpg", b"", "unknown ending, accepted: .raw, .npy, .pgm, .ppm"),
    ("x.raw", bytes(61), "61 bytes are no multiple of a sample's 60"),
    ("x.npy", b"", "is no .npy file"),
    ("x.npy", b"\x93NUMPY\x01\x00\xff\xffxxxx", "header is cut off"),
    ("x.npy", npy("{}"), "no descr"),
    (
        "x.npy",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5, 4), }"),
        "values are '<f4', accepted: uint8",
    ),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': True, 'shape': (3, 5, 4), }"), "Fortran order"),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 5), }"), "(3, 4, 5), accepted: (3, 5, 4)"),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (60,), }"), "shape is (60,)"),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (), }"), "shape is ()"),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (a, ), }"), "no valid shape"),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 5, 4"), "no valid shape"),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': "), "no shape"),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 5, 4), }", bytes(59)), "has 59 bytes of data"),
    ("x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999, 3, 5, 4)}"), "has 0 bytes of data"),
    ("x.ppm", b"P3 4 5 255\n0", "must be P6"),
    ("x.ppm", b"P6 4 5\n", "header is damaged"),
    ("x.ppm", b"P6 5 4 255\n" + bytes(60), "the image is 4 x 5, the network reads 5 x 4"),
    ("x.ppm", b"P6 4 5 65535\n" + bytes(120), "largest value is 65535, accepted: 255"),
    ("x.ppm", b"P6 4 5 255\n" + bytes(59), "59 bytes of pixels, expected 60"),
    ("x.ppm", b"P6 4 5 255", "0 bytes of pixels"),
    ("x.ppm", b"P6 # never ends", "header is damaged"),
    ("x.pgm", b"P5 4 5 255\n" + bytes(20), "an image of 1 channels for a network that reads (3, 5, 4)"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_runner_refuses_bad_inputs(built: Path, model: Path, name: str, content: bytes, message: str) -> None:
    path = model.parent / name
    path.write_bytes(content)
    done = run(built, model, path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(f"bitspike-run: {path}: ") and message in done.stderr.decode()


def test_runner_refuses_bad_arguments(built: Path, model: Path) -> None:
    for arguments, message in (
        ([], "no model given"),
        ([model], "no input given"),
        ([model, "--fast"], "unknown option --fast"),
        ([model, "x.raw", "--threads", "many"], "--threads is 'many', accepted: 0 to 1024"),
        ([model, "x.raw", "--threads", "-1"], "--threads is '-1'"),
        ([model, "x.raw", "--time"], "--time is missing its number"),
        ([model, "x.raw", "--level"], "--level is missing its name"),
        ([model, "x.raw", "--level", "neon9"], "level is 'neon9'"),
        ([model, "missing.raw"], "missing.raw: cannot be read (No such file"),
        ([model, model.parent / "folder.raw"], "folder.raw: cannot be read"),
        (["missing.bspk", "x.raw"], "missing.bspk: cannot be read (No such file"),
        ([__file__, "x.raw"], f"{__file__}: header: not a .bspk file"),
    ):
        (model.parent / "folder.raw").mkdir(exist_ok=True)
        done = run(built, *arguments)
        assert done.returncode == 2 and message in done.stderr.decode() and done.stdout == b""


def test_runner_reports_a_failed_self_test(built: Path, model: Path, example: tuple[ir.Graph, np.ndarray]) -> None:
    data = model.read_bytes()
    wanted = reference.run(*example).logits[0].tobytes()
    model.write_bytes(assemble(sections(data.replace(wanted, wanted[::-1]))))
    done = run(built, model, "--self-test")
    assert done.returncode == 1 and b"logits of test vector 0 differ" in done.stderr


@pytest.fixture(scope="module")
def cifar_networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Path, Path, np.ndarray]]]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from networks import network, smooth_images

    found, folder = [], tmp_path_factory.mktemp("cifar")
    for bits in (1, 4):
        graph, x = network("vgg8", bits), smooth_images((3, 32, 32), 2, seed=2)
        artifact.save(graph, folder / f"{bits}.bspk")
        np.save(folder / "x.npy", x)
        found.append((folder / f"{bits}.bspk", folder / "x.npy", reference.run(graph, x).logits))
    yield found
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_peak_memory_of_a_cifar_network(built: Path, cifar_networks: list, threads: int) -> None:
    for model, x, logits in cifar_networks:
        done = run(built, model, x, "--memory", "--threads", threads)
        text = done.stdout.decode()
        assert text.startswith(lines(x, logits))
        assert int(re.search(r"peak resident (\d+) KiB", text)[1]) <= MAX_RUNNER_KIB


def test_installed_files_are_enough(built: Path, model: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    subprocess.run([compiler("cmake"), "--install", built, "--prefix", prefix], check=True, capture_output=True)
    package = next(prefix.rglob("bitspike.pc")).read_text()
    flags = dict(re.findall(r"^(\w+): (.*)$", package, re.MULTILINE))
    lib = next(prefix.rglob("libbitspike.so")).parent
    assert flags["Libs"] == "-L${libdir} -lbitspike" and f"libdir=${{prefix}}/{lib.relative_to(prefix)}\n" in package
    command = [compiler("cc", "gcc", "clang"), "-I", prefix / "include", Path(__file__).with_name("c_client.c")]
    subprocess.run([*command, "-L", lib, "-lbitspike", f"-Wl,-rpath,{lib}", "-o", tmp_path / "client"], check=True)
    assert subprocess.run([tmp_path / "client", model], capture_output=True, check=False).returncode == 0
    assert run(prefix / "bin", model, "--self-test").returncode == 0
