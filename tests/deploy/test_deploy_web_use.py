"""What a person does on the page: look, draw, drop files, play steps."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from web_chromium import Chromium, Page
from web_compare import compare
from web_networks import events_network

from bitspike import engine
from bitspike.data import DataBundle
from bitspike.deploy import web

MISSING = web.missing_tools()
compiles = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


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
