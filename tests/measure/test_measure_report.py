from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measure_graphs import Shipped, allocation_record

from bitspike.measure import measure_all, plots, render_report, units, write_report
from bitspike.measure.collect import input_image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NARROW = 390


@pytest.fixture(scope="module")
def result(shipped: Shipped) -> dict[str, Any]:
    measured = measure_all(
        shipped.artifact,
        shipped.exact,
        shipped.samples[:16],
        shipped.labels,
        latency_budget_s=0.2,
        latency_batches=(1,),
    )
    epochs = [
        {"epoch": e, "loss": 2 / e, "accuracy": 1 - 0.5 / e, "validation_accuracy": 1 - 0.6 / e, "seconds": 0.1}
        for e in range(1, 6)
    ]
    return {
        "title": "Q-SNN on digits <script>",
        "method": "q-snn",
        "data": "digits",
        "seed": 0,
        "command": "bitspike train q-snn --data digits --set train.epochs=5 --out runs/a-rather-long-name-of-a-folder",
        "created": "2024-05-01",
        "test_samples": 360,
        "accuracy": {"quantized": 0.9722, "engine": 0.975},
        "history": {"quantized": epochs, "exact": epochs[:1]},
        "classes": [str(d) for d in range(10)],
        "config": {"model": {"name": "vggsnn"}, "seed": 0},
        "allocation": allocation_record(),
    } | measured


class Page(HTMLParser):
    """Addresses that a browser would load, text of headings, and unclosed tags."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "data", "srcset", "poster")]
        self.scripts += tag == "script"
        if tag == "section":
            self.ids.append(values.get("id") or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_measure_all_is_json(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == json.loads(json.dumps(result))
    keys = {"artifact", "size", "operations", "energy", "latency", "memory", "agreement", "raster", "input_image"}
    assert keys | {"environment"} <= result.keys()
    assert len(result["input_image"]) == 8 and len(result["input_image"][0]) == 8


def test_the_page_is_complete_and_loads_nothing(result: dict[str, Any], tmp_path: Path) -> None:
    write_report(result, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and page.scripts == 0
    assert page.ids == [
        *("accuracy", "agreement", "size", "allocation", "operations", "spikes", "latency", "energy"),
        *("configuration", "environment"),
    ]
    assert all(a.startswith(("data:image/", "#")) for a in page.loaded)
    assert "http:" not in text and "https:" not in text and "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)'\"]+)", text))
    assert "&lt;script&gt;" in text
    for figure in ("97.50\u00a0%", units.size(result["artifact"]["bytes"]), "0 bits"):
        assert figure in text
    assert "ISSCC 2014" in text and "10^6 bytes" in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_everything_is_optional(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_svg", lambda figure, label: "<svg></svg>")  # drawing is what takes time
    assert Page(render_report({})).ids == []
    for key in result:
        Page(render_report({key: result[key]}))
        Page(render_report({k: v for k, v in result.items() if k != key}))


def test_a_difference_is_said(result: dict[str, Any]) -> None:
    row = result["agreement"][0] | {"differing_spikes": 3}
    text = render_report(result | {"agreement": [row]})
    assert "differs in 3 of" in text and "3 bits" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to render the report with")
def test_a_browser_shows_it_without_overflow(result: dict[str, Any], tmp_path: Path) -> None:
    report, frame = tmp_path / "report.html", tmp_path / "frame.html"
    probe = """<script>
    window.onerror = (message) => { document.body.dataset.error = message; };
    window.addEventListener("load", () => {
      const root = document.documentElement;
      const wide = [...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll,pre,svg")
        && e.getBoundingClientRect().right > root.clientWidth + 0.5).map((e) => e.tagName);
      const broken = [...document.images].filter((i) => !i.naturalWidth).length;
      parent.postMessage({ width: root.clientWidth, scroll: root.scrollWidth, wide, broken,
        figures: document.querySelectorAll("figure svg").length, error: document.body.dataset.error || "" }, "*");
    });</script></body>"""
    report.write_text(render_report(result).replace("</body>", probe), encoding="utf-8")
    frame.write_text(
        f'<body><iframe src="report.html" width="{NARROW}" height="800" style="border:0"></iframe><pre id="answer"></pre>'
        '<script>addEventListener("message", (e) => { answer.textContent = JSON.stringify(e.data); });</script></body>'
    )
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += " --disable-component-update --disable-sync --hide-scrollbars --allow-file-access-from-files --virtual-time-budget=4000"
    command = [str(CHROMIUM), *options.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<pre id="answer">(\{.*?\})</pre>', done.stdout)
    assert found, f"the page did not answer: {done.stderr[-500:]}"
    answer = json.loads(found.group(1))
    assert answer["scroll"] <= answer["width"] == NARROW
    assert answer["wide"] == [] and answer["broken"] == 0 and answer["error"] == ""
    assert answer["figures"] == 7
    assert "CONSOLE" not in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.size(842), "842 B"),
        (units.size(12_350), "12.3 kB"),
        (units.size(1_620_000), "1.62 MB"),
        (units.size(999_900), "1.00 MB"),
        (units.seconds(9.96e-6), "9.96 µs"),
        (units.seconds(0.00123), "1.23 ms"),
        (units.seconds(0), "0 s"),
        (units.joules(4.64e-8), "46.4 nJ"),
        (units.joules(2.5e-13), "0.250 pJ"),
        (units.count(20_337.4), "20.3 k"),
        (units.count(999.4), "999"),
        (units.percent(0.97222), "97.22 %"),
        (units.times(5.26), "5.26×"),
        (units.times(123.4), "123×"),
        (units.whole(1234567), "1,234,567"),
    ],
)
def test_units(text: str, expected: str) -> None:
    assert text == expected.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("shape", "depth"), [((1, 4, 5), 2), ((3, 4, 5), 3), ((2, 4, 5), 3), ((6, 2, 4, 5), 3), ((4, 4, 5), 2)]
)
def test_input_images(shape: tuple[int, ...], depth: int) -> None:
    rows = np.asarray(input_image(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)))
    assert rows.ndim == depth and rows.shape[:2] == (4, 5) and rows.min() >= 0 and rows.max() <= 255
