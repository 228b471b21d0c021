"""Writing the page, without a browser: samples, missing tools, the demo."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bitspike import engine
from bitspike.cli import demo
from bitspike.cli.app import app
from bitspike.data import DataBundle
from bitspike.deploy import web
from bitspike.deploy.web.samples import drawing_hints
from bitspike.errors import BitspikeError

MISSING = web.missing_tools()
compiles = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def test_what_samples_tell_about_drawing(digits: DataBundle) -> None:
    hints = drawing_hints(digits.test.inputs[:20], (1, 8, 8))
    assert hints["step"] == 15 and hints["top"] == 240 and hints["paper"] == [0] and not hints["filled"]
    assert hints["fit"] == 1.0
    boxes = np.full((5, 3, 28, 28), 250, np.uint8)
    boxes[:, :, 7:21, 10:18] = np.arange(14 * 8, dtype=np.uint8).reshape(14, 8)
    hints = drawing_hints(boxes, (3, 28, 28))
    assert hints == {"paper": [250] * 3, "step": 1, "top": 255, "fit": 0.5, "filled": True, "brush": 2.52}
    assert drawing_hints(np.empty((0, 2, 4, 4), np.uint8), (2, 4, 4))["paper"] == [0, 0]


@compiles
def test_a_file_alone_shows_its_stored_samples(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "some net.bspk").write_bytes((folder / "model.bspk").read_bytes())
    done = CliRunner().invoke(app, ["export", str(tmp_path / "some net.bspk"), "--to", "web", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "some_net.html").read_text()
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[0])
    assert [sample["label"] for sample in data["samples"]] == [None, None]
    assert "The test samples stored in the file" in text and "12.50" in text  # the accuracy of its META


@pytest.mark.parametrize(("present", "named"), [((), "clang lld"), (("clang",), "install lld")])
def test_missing_tools_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], named: str
) -> None:
    for program in present:
        (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BitspikeError, match=named):
        web.write_page(engine.load(folder / "model.bspk"), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_compiler_that_fails_is_quoted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wasm-ld").touch(0o755)
    (tmp_path / "clang").write_text("#!/bin/sh\necho 'error: unable to create target: wasm32' >&2\nexit 1\n")
    (tmp_path / "clang").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BitspikeError, match="unable to create target"):
        web.compile_wasm(engine.load(folder / "model.bspk").graph())


def test_the_demo_goes_on_without_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.bspk").write_bytes((folder / "model.bspk").read_bytes())
    monkeypatch.setenv("PATH", "")
    demo.write_web_page(tmp_path)
    said = capsys.readouterr().err
    assert said.startswith("no web page: ") and said.count("\n") == 1 and "clang lld" in said
    assert not (tmp_path / "page.html").exists()


@compiles
def test_the_demo_writes_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model.bspk", "result.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    demo.write_web_page(tmp_path)
    assert "web page: " in capsys.readouterr().err
    assert "The first test sample of each class" in (tmp_path / "page.html").read_text()


def test_data_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alone.bspk").write_bytes((folder / "model.bspk").read_bytes())
    done = CliRunner().invoke(
        app,
        [
            "export",
            str(tmp_path / "alone.bspk"),
            "--to",
            "web",
            "--data-root",
            str(tmp_path),
            "-o",
            str(tmp_path / "x"),
        ],
    )
    assert isinstance(done.exception, BitspikeError) and "no result.json" in str(done.exception)
