"""A network's page in headless Chromium, offline: every bit as in the engine, drawing, loading, layout; and errors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from web_chromium import CHROMIUM, Chromium, Page
from web_compare import compare
from web_networks import digits_artifact, events_network, random_network

from bitspike import engine
from bitspike.cli import demo
from bitspike.cli.app import app
from bitspike.data import DataBundle
from bitspike.deploy import web
from bitspike.deploy.web.samples import drawing_hints
from bitspike.errors import BitspikeError

MISSING = web.missing_tools()
compiles = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
SAMPLES_OF_RANDOM = 20
TEST_IMAGES = 120


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
    if MISSING is None:
        done = CliRunner().invoke(app, ["export", str(run), "--to", "web", "-o", str(run / "page.html")])
        assert done.exit_code == 0, done.output
        assert "the first test sample of each class" in done.output
    return run


@pytest.fixture
def page(browser: Chromium, folder: Path) -> Page:
    return browser.open(folder / "page.html")


# --- the same bits ---


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


# --- one file that asks for nothing ---


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


# --- what a person does ---


@compiles
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows(browser: Chromium, folder: Path, width: int, dark: bool) -> None:
    page = browser.open(folder / "page.html", width=width, height=740, dark=dark, touch=width < 500)
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter((e) => !e.closest('pre,.button') && "
        "e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.tagName + e.id)"
    )
    assert wide == [] and page.evaluate("document.documentElement.scrollWidth") == width
    ground, text = page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; })()"
    )
    assert (brightness(ground) < brightness(text)) is dark
    map_pixel = "document.querySelector('.maps canvas').getContext('2d').getImageData(0, 0, 1, 1).data[0]"
    assert (page.evaluate(map_pixel) < 128) is dark


def brightness(colour: str) -> int:
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


@compiles
def test_a_sample_is_shown_with_its_answer(page: Page, folder: Path, digits: DataBundle) -> None:
    network = engine.load(folder / "model.bspk")
    for label in (3, 8):
        first = digits.test.inputs[list(digits.test.labels).index(label)]
        page.evaluate(f"document.querySelectorAll('#samples button')[{label}].click()")
        assert shown(page) == first.reshape(-1).tolist()
        answer = int(network.run(first).argmax())
        assert page.evaluate("document.getElementById('verdict').textContent") == str(answer)
        note = page.evaluate("document.getElementById('verdict-note').textContent")
        assert note == f"{'✓' if answer == label else '✗'} label: {label}"
        rates = [f"{100 * spikes.mean():.1f} % firing" for spikes in network.trace(first).values()]
        assert page.evaluate("[...document.querySelectorAll('.layer .rate')].map((e) => e.textContent)") == rates
    assert page.evaluate("document.querySelectorAll('.maps figure').length") == 3 * network.time_steps


@compiles
def test_steps_are_played(page: Page) -> None:
    page.evaluate("document.getElementById('play').click()")
    page.wait_for("document.getElementById('step-text').textContent === 'Step 2'")
    assert page.evaluate("document.querySelectorAll('.maps figure.now').length") == 3
    page.evaluate("document.getElementById('play').click()")
    assert page.evaluate("document.getElementById('play').textContent") == "Play"


@compiles
@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "touch"])
def test_a_drawn_ring(browser: Chromium, folder: Path, touch: bool) -> None:
    page = browser.open(folder / "page.html", width=360 if touch else 1280, height=740, touch=touch)
    page.evaluate("document.getElementById('pad').scrollIntoView({ block: 'center' })")
    x, y, size = page.evaluate(
        "(() => { const b = document.getElementById('pad').getBoundingClientRect(); return [b.x, b.y, b.width]; })()"
    )
    turns = [2 * math.pi * i / 24 for i in range(25)]
    # A small ring, away from the middle: it must come out centred, and as large as the digits of the data.
    page.drag(
        [(x + size * (0.3 + 0.1 * math.cos(a)), y + size * (0.3 + 0.1 * math.sin(a))) for a in turns], touch=touch
    )
    image = np.array(shown(page)).reshape(8, 8)
    assert (image % 15 == 0).all() and 150 <= image.max() <= 240, "the data's own levels"
    assert image[3:5, 3:5].max() == 0 and min(image[0, 3:5].min(), image[7, 3:5].min(), image[3:5, 0].min()) > 60
    assert np.abs(image - image[::-1]).max() <= 30 and np.abs(image - image.T).max() <= 30
    page.evaluate("document.getElementById('undo').click()")
    assert not any(shown(page)) and page.complaints() == []


@compiles
def test_drawing_by_keyboard(page: Page) -> None:
    page.evaluate("document.getElementById('fit').checked = false, document.getElementById('pad').focus()")
    page.press(*["ArrowUp"] * 5, " ", *["ArrowDown"] * 10, " ", *["ArrowLeft"] * 3)
    image = np.array(shown(page)).reshape(8, 8)
    assert image[1:7, 3:5].min() > 60 and image[:, :2].max() == image[:, 6:].max() == 0
    page.press("Backspace")
    assert not any(shown(page))


@compiles
def test_files_are_taken_byte_for_byte(page: Page, tmp_path: Path, digits: DataBundle) -> None:
    from PIL import Image

    image = digits.test.inputs[7, 0]
    Image.fromarray(image).save(tmp_path / "x.png")
    Image.fromarray(240 - image).save(tmp_path / "dark-on-light.png")
    np.save(tmp_path / "x.npy", digits.test.inputs[5:9])
    np.save(tmp_path / "wide.npy", digits.test.inputs[5:9].astype(np.int64))
    page.choose_file("#file", tmp_path / "x.png")
    page.wait_for("document.getElementById('input-message').textContent.startsWith('x.png, 8 × 8')")
    assert shown(page) == image.reshape(-1).tolist()
    page.choose_file("#file", tmp_path / "x.npy")
    page.wait_for("document.getElementById('input-message').textContent.includes('first of 4')")
    assert shown(page) == digits.test.inputs[5].reshape(-1).tolist()
    page.choose_file("#file", tmp_path / "dark-on-light.png")
    page.wait_for("document.getElementById('invert').checked")
    assert shown(page) == image.reshape(-1).tolist()
    page.choose_file("#file", tmp_path / "wide.npy")
    page.wait_for("document.getElementById('input-message').textContent.includes('accepted: .npy, uint8')")
    with pytest.raises(RuntimeError, match="Uint8Array of 64 bytes, not Uint8Array of 3"):
        page.evaluate("bitspike.run(new Uint8Array(3))")


def shown(page: Page) -> list[int]:
    """The sample that the page shows, once it has drawn what is pending."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    sample: list[int] = page.evaluate("[...bitspike.sample()]")
    return sample


@compiles
def test_time_is_measured(page: Page) -> None:
    page.wait_for("!document.getElementById('measure').disabled")
    page.evaluate("document.getElementById('measure').click()")
    page.wait_for("/median of 21 batches/.test(document.getElementById('time').textContent)")
    assert re.match(r"[\d.]+ (µs|ms)$", page.evaluate("document.getElementById('fact-time').textContent"))
    assert 0 < page.evaluate("bitspike.time(bitspike.sample(), 50)") < 5000


@compiles
def test_events_in_many_steps(browser: Chromium, tmp_path: Path) -> None:
    network, samples = events_network()
    web.write_page(network, tmp_path / "page.html", web.PageSamples(samples, (None, 2, 0), "random <events>"))
    page = browser.open(tmp_path / "page.html", width=360, height=740)
    assert compare(page, network, samples)["differing_spikes"] == 0
    assert page.evaluate("document.getElementById('pad')") is None
    assert page.evaluate("document.querySelectorAll('.maps figure').length") == 1
    page.evaluate(
        "(() => { const s = document.getElementById('step'); s.value = 9; s.dispatchEvent(new Event('input')); })()"
    )
    rate = next(iter(network.trace(samples[0]).values()))[8].mean()
    assert page.evaluate("document.querySelector('.maps figcaption').textContent") == f"step 9: {100 * rate:.1f} %"
    assert page.evaluate("document.querySelector('.layer h3').textContent") == "</script><b>layer"
    assert page.evaluate("document.querySelectorAll('.score').length") == 12
    assert page.evaluate("document.documentElement.scrollWidth") == 360 and page.complaints() == []


# --- without a browser ---


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
