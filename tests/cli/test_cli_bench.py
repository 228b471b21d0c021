"""``bitspike bench`` as a person or a script meets it. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import networks

from bitspike.deploy import artifact

needs_openvino = pytest.mark.skipif(
    not all(find_spec(name) for name in ("onnx", "onnxruntime", "openvino")), reason="openvino or onnx is not installed"
)


def call(*arguments, cwd=None):
    command = [sys.executable, "-m", "bitspike", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    (folder / "digits.bspk").write_bytes(artifact.encode(networks.network("digits", 1)))
    np.save(folder / "samples.npy", networks.smooth_images((1, 8, 8), 12, seed=2))
    return folder / "digits.bspk"


@pytest.mark.slow
@needs_openvino
def test_bench_compares_with_every_runtime_and_draws_it(file, tmp_path):
    page = tmp_path / "bench.html"
    options = ["--samples", file.parent / "samples.npy", "--batch", 4, "--seconds", 0.5, "--report", page, "--json"]
    done = call(file, "--against", "torch,ort,openvino", *options)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout.splitlines()[-1])["rows"]}
    for name in ("torch fp32", "ONNX Runtime fp32", "ONNX Runtime int8", "OpenVINO fp32", "OpenVINO int8"):
        assert 0 < rows[name]["minimum_s"] <= rows[name]["median_s"] <= rows[name]["maximum_s"]
        assert rows[name]["peak_bytes"] > 1e6
    assert all(rows[name]["agreement"] == 1 for name in rows if name.endswith("OpenVINO fp32") or "torch" in name)
    assert all(row["batch"] == 4 and row["threads"] == 1 for row in rows.values())
    text = page.read_text()
    assert 'aria-label="Latency, batch 4"' in text and "digits.bspk: latency" in text
    assert all(f">{name}" in text for name in rows)
    assert "http:" not in text and "https:" not in text and "<script" not in text


@pytest.mark.slow
def test_bench_prints_a_table(file):
    done = call(file, "--against", "torch", "--seconds", 0.3)
    assert done.returncode == 0, done.stderr
    assert "torch fp32" in done.stdout and "times bitspike" in done.stdout and "ONNX" not in done.stdout
    assert "random bytes" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--against", "torch,tvm"], ["tvm", "torch", "compile", "ort", "openvino"]),
        (["--batch", "0"], ["--batch 0", "positive"]),
        (["--threads", "-1"], ["--threads -1", "positive"]),
        (["--seconds", "0"], ["--seconds 0", "positive"]),
        (["--report", "missing/page.html"], ["missing", "does not exist"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_options_get_one_message_and_status_2(arguments, named, file, tmp_path):
    done = call(file, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in named)
    assert not list(tmp_path.iterdir())
