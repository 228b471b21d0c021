"""The command line as a person or a script meets it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from bitspike import engine

COMMAND = [sys.executable, "-m", "bitspike"]


def call(*arguments, cwd=None, timeout=240):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=timeout)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One demo run, as a new user makes it."""
    folder = tmp_path_factory.mktemp("demo")
    done = call("demo", "--json", "--out", folder / "run", "--threads", "1", timeout=500)
    assert done.returncode == 0, done.stderr
    return folder / "run", json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_demo_reaches_its_promises(demo):
    _, answer = demo
    assert answer["accuracy"] >= 0.95  # one seed; the mean of three is in the documentation
    assert answer["accuracy_full_precision"] >= 0.95
    assert answer["artifact_bytes"] <= 20_000
    assert answer["differing_bits"] == 0
    assert answer["seconds"] > 0


@pytest.mark.slow
def test_demo_leaves_artifact_and_report(demo):
    folder, answer = demo
    assert answer["artifact"] == str(folder / "model.bspk")
    network = engine.load(answer["artifact"])
    assert network.self_test() >= 1
    page = (folder / "report.html").read_text()
    assert "<html" in page and "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_commands_on_a_run(demo, tmp_path):
    folder, answer = demo
    evaluated = json.loads(call("eval", folder, "--split", "test", "--json").stdout.splitlines()[-1])
    assert evaluated["accuracy"] == evaluated["accuracy_engine"] == answer["accuracy"]
    exported = call("export", folder, "--to", "bspk", "-o", tmp_path / "again.bspk")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "again.bspk").read_bytes() == (folder / "model.bspk").read_bytes()
    page = tmp_path / "page.html"
    assert call("report", folder, "-o", page).returncode == 0
    assert page.stat().st_size > 10_000
    layers = json.loads(call("inspect", folder / "model.bspk", "--json").stdout.splitlines()[-1])["layers"]
    assert {"Input", "Conv", "Lif", "Readout"} <= {layer["operation"] for layer in layers}


@pytest.mark.slow
def test_infer_reads_arrays_and_images(demo, tmp_path):
    from PIL import Image
    from sklearn.datasets import load_digits

    folder, _ = demo
    images = (load_digits().images[:3] * 15).astype(np.uint8)[:, None]
    np.save(tmp_path / "x.npy", images)
    Image.fromarray(images[0, 0]).save(tmp_path / "x.png")
    done = call("infer", folder / "model.bspk", tmp_path / "x.npy", tmp_path / "x.png", "--json")
    answers = json.loads(done.stdout.splitlines()[-1])["answers"]
    expected = engine.load(folder / "model.bspk").run(images)
    assert [a["logits"] for a in answers] == [*expected.tolist(), expected[0].tolist()]


@pytest.mark.slow
def test_bench_measures_a_file(demo):
    folder, _ = demo
    done = call("bench", folder / "model.bspk", "--against", "torch", "--seconds", "1", "--json")
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert {row["runtime"] for row in rows} == {"bitspike", "torch"}
    assert all(row["median_s"] > 0 for row in rows)


@pytest.mark.slow
def test_compress_starts_from_the_full_precision_network(demo, tmp_path):
    folder, _ = demo
    config = tmp_path / "method.json"
    config.write_text('{"type": "QSNN", "version": 1, "membrane_bits": 2, "membrane": "power-of-two"}')
    short = ["--set", "train.epochs=2", "--set", "exact.epochs=1"]
    done = call("compress", folder, config, "--out", tmp_path / "small", *short, "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["differing_bits"] == 0
    assert answer["accuracy"] > 0.5  # far above chance after two epochs: it did start from trained weights
    bits = {n["membrane_bits"] for n in engine.load(answer["artifact"]).nodes if n["op"] == "Lif"}
    assert bits == {2}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "nope", "--data", "digits"], ["nope", "q-snn"]),
        (["train", "q-snn"], ["--data", "digits"]),
        (["train", "q-snn", "--data", "fashion"], ["fashion", "fashion-mnist"]),
        (["train", "q-snn", "--data", "digits", "--set", "train.epoch=3"], ["epoch", "epochs"]),
        (["train", "q-snn", "--data", "digits", "--set", "train.epochs=many"], ["many", "int"]),
        (["train", "q-snn", "--data", "digits", "--set", "epochs"], ["key=value"]),
        (["train", "q-snn", "--data", "digits", "--set", "compress.weight_bits=3"], ["3", "accepted: 1"]),
        (["train", "q-snn", "--data", "mnist", "--data-root", "/nowhere"], ["/nowhere"]),
        (["train", "q-snn", "--config", "missing.json"], ["missing.json"]),
        (["train", "q-snn", "--data", "digits", "--set", 'train.augment=["spin"]', "--out", "x"], ["spin", "crop1"]),
        (["train", "q-snn", "--data", "digits", "--accelerator", "magic", "--out", "x"], ["magic", "cpu"]),
        (["eval", "."], ["config.json"]),
        (["inspect", "missing.bspk"], ["missing.bspk"]),
        (["infer", "missing.bspk", "x.npy"], ["missing.bspk"]),
        (["list", "things"], ["things", "models"]),
        (["bench", "missing.bspk", "--against", "magic"], ["magic", "torch"]),
        (["export", ".", "--to", "pdf"], ["pdf", "bspk"]),
        (["report", "."], ["result.json"]),
        (["frobnicate"], ["frobnicate"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_one_message_and_status_2(arguments, named, tmp_path):
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in named:
        assert word in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "x"]


def test_inspect_needs_no_torch(tmp_path):
    code = "import sys; sys.argv = ['bitspike', 'list', '--help']\ntry:\n    from bitspike.cli import main; main()\n"
    code += "except SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("command", "demo list train eval compress export inspect infer bench report".split())
def test_every_command_has_help(command):
    done = call(command, "--help")
    assert done.returncode == 0 and len(done.stdout) > 200


def test_list_names_what_is_registered():
    found = json.loads(call("list", "--json").stdout.splitlines()[-1])
    assert "q-snn" in found["recipes"] and "digits" in found["datasets"] and "vggsnn" in found["models"]
    assert found["targets"] == ["bspk", "c99", "web"] and "q-snn/fashion-mnist" in found["configs"]


@pytest.mark.slow
def test_torchrun_trains_with_two_processes_and_ships_once(tmp_path):
    short = ["train.epochs=1", "exact.epochs=1", "baseline=null", 'model.widths=[8, "P", 9, "P"]']
    settings = [word for change in short for word in ("--set", change)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "bitspike"]
    command = [
        *launch,
        "train",
        "q-snn",
        "--data",
        "digits",
        "--devices",
        "2",
        "--accelerator",
        "cpu",
        "--threads",
        "1",
    ]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run"), *settings, "--json"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == 1
    assert json.loads(answers[0])["differing_bits"] == 0
