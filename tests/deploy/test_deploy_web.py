"""A network's page in headless Chromium, offline: every bit as in the engine, and nothing asked of the network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import calibrate, small_images, small_model
from web_chromium import Chromium, Page
from web_compare import compare
from web_networks import random_network

from bitspike import deploy, engine
from bitspike.compress import StandardizedBinary, apply
from bitspike.data import DataBundle
from bitspike.deploy import web

MISSING = web.missing_tools()
compiles = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
SAMPLES_OF_RANDOM = 20
TEST_IMAGES = 120


@compiles
def test_every_bit_of_real_digits(page: Page, folder: Path, digits: DataBundle) -> None:
    compared = compare(page, engine.load(folder / "model.bspk"), digits.test.inputs[:TEST_IMAGES])
    assert compared["differing_spikes"] == compared["differing_logits"] == 0
    assert compared["logits"] == 10 * TEST_IMAGES and 0.02 < compared["firing_rate"] < 0.6


@compiles
@pytest.mark.parametrize("seed", range(6))
def test_every_bit_of_random_graphs(browser: Chromium, tmp_path: Path, seed: int) -> None:
    network, samples = random_network(seed, SAMPLES_OF_RANDOM, extreme=seed % 3 == 2)
    web.write_page(network, tmp_path / "page.html")
    page = browser.open(tmp_path / "page.html")
    compared = compare(page, network, samples)
    assert compared["differing_spikes"] == compared["differing_logits"] == 0
    assert compared["logits"] > 0 and page.complaints() == []


@compiles
@pytest.mark.parametrize("name", ["qkformer", "bestformer", "snnvit"])
def test_every_bit_of_transformers(browser: Chromium, tmp_path: Path, name: str) -> None:
    """Between them they have every node of streams, maps and masks."""
    samples = small_images(name, SAMPLES_OF_RANDOM)
    model = calibrate(apply(small_model(name), StandardizedBinary(8)), samples)
    network = engine.load(deploy.compile(model, samples).to_bytes())
    web.write_page(network, tmp_path / "page.html")
    page = browser.open(tmp_path / "page.html")
    compared = compare(page, network, samples.numpy())
    assert compared["differing_spikes"] == compared["differing_logits"] == 0
    assert compared["spikes"] > 0 and compared["firing_rate"] > 0 and page.complaints() == []


@compiles
def test_it_checks_itself_and_says_so(page: Page, browser: Chromium, folder: Path, tmp_path: Path) -> None:
    said = page.evaluate("document.getElementById('check').textContent")
    assert said.startswith("✓") and "10 of 10 samples" in said
    text = (folder / "page.html").read_text()
    number = re.search(r'"logits":\[(-?\d+)', text)
    assert number is not None
    wrong = text[: number.start(1)] + str(int(number[1]) + 1) + text[number.end(1) :]
    (tmp_path / "wrong.html").write_text(wrong)
    said = browser.open(tmp_path / "wrong.html").evaluate("document.getElementById('check').textContent")
    assert said.startswith("✗") and "9 of 10 samples" in said


class Markup(HTMLParser):
    """Addresses that a browser would load, and tags that stay open."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "data", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@compiles
def test_the_file_names_no_other(folder: Path) -> None:
    text = (folder / "page.html").read_text()
    markup = Markup(text)
    assert markup.open == [] and markup.loaded == ["data:,"]
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert "default-src 'none'" in text and "connect-src" not in text
    assert "25.00" in text and "360 samples" in text
    assert [p.name for p in folder.iterdir() if "page" in p.name] == ["page.html"]


@compiles
def test_the_browser_asks_for_nothing_else(page: Page, folder: Path) -> None:
    assert page.requests() == [(folder / "page.html").as_uri()]
    assert page.complaints() == []
    answer = page.evaluate("fetch('https://example.org').then(() => 'answered', () => 'refused')")
    assert answer == "refused" and any("Content Security Policy" in said for said in page.complaints())


@compiles
def test_equal_networks_give_equal_pages(folder: Path) -> None:
    network = engine.load(folder / "model.bspk")
    assert web.compile_wasm(network.graph()) == web.compile_wasm(network.graph())
