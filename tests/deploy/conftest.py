"""A digits network as a web page, and the browser that opens it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner
from web_chromium import CHROMIUM, Chromium, Page
from web_networks import digits_artifact

from bitspike.cli.app import app
from bitspike.data import DataBundle
from bitspike.deploy import web


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine to open the page with; on Debian: apt-get install chromium")
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def folder(digits: DataBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the artifact of a digits network, its figures, and its page.html."""
    run = tmp_path_factory.mktemp("web") / "run-0"
    run.mkdir()
    (run / "model.bspk").write_bytes(digits_artifact(digits))
    result = {"artifact_bytes": (run / "model.bspk").stat().st_size, "accuracy": {"exact": 0.5, "engine": 0.25}}
    choice = {"name": "digits", "root": None, "options": {}}
    (run / "result.json").write_text(json.dumps(result | {"test_samples": 360, "config": {"data": choice}}))
    if web.missing_tools() is None:
        done = CliRunner().invoke(app, ["export", str(run), "--to", "web", "-o", str(run / "page.html")])
        assert done.exit_code == 0, done.output
        assert "the first test sample of each class" in done.output
    return run


@pytest.fixture
def page(browser: Chromium, folder: Path) -> Page:
    return browser.open(folder / "page.html")
