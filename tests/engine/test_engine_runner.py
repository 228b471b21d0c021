"""The engine as a program: inputs, outputs, refusals, memory, installation."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graphs import random_samples, random_weight
from mutate import assemble, sections
from native_build import ROOT, compiler

from bitspike import engine
from bitspike.deploy import artifact, ir, reference

MAX_RUNNER_KIB = 16 * 1024


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
