"""Headless Chromium by its DevTools protocol over a pipe: no driver, no port, no package needed.

with Chromium(folder_for_its_profile) as browser:
    page = browser.open(Path("page.html"), width=360, height=740)
    page.evaluate("1 + 1")
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--mute-audio", "--remote-debugging-pipe", "--disable-quic"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # offline: no name has an address
)
ANSWER_SECONDS = 60.0


class Chromium:
    """One browser process."""

    def __init__(self, profile: Path) -> None:
        if CHROMIUM is None:
            raise RuntimeError("no chromium on this machine")
        read_end, self._write = os.pipe()  # the browser reads commands from 3 and writes answers to 4
        self._read, write_end = os.pipe()
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                'exec "$@" 3<&"$COMMANDS" 4>&"$ANSWERS"',
                "bash",
                CHROMIUM,
                *FLAGS,
                f"--user-data-dir={profile}",
            ],
            env=os.environ | {"COMMANDS": str(read_end), "ANSWERS": str(write_end)},
            pass_fds=(read_end, write_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_end)
        os.close(write_end)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (RuntimeError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def version(self) -> str:
        """As in "Chrome/140.0.0.0"."""
        return str(self.send("Browser.getVersion")["product"])

    def renderers(self) -> list[int]:
        """Process ids of the processes that run pages."""
        found = self.send("SystemInfo.getProcessInfo")["processInfo"]
        return [process["id"] for process in found if process["type"] == "renderer"]

    def open(
        self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, touch: bool = False
    ) -> Page:
        """Load a file in a new page of that size (CSS pixels) and colour scheme, wait until it says that it is ready."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        page.send("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", features=[scheme])
        page.send("Page.navigate", url=path.resolve().as_uri())
        page.wait_for("document.documentElement?.dataset.ready === 'yes'")
        return page

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of one command; RuntimeError with the browser's own message where it fails."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        self._write_all(json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            answer = self._receive(deadline)
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error'].get('message')}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def _write_all(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._write, data) :]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise RuntimeError(f"chromium did not answer within {ANSWER_SECONDS:.0f} s")
            received = os.read(self._read, 1 << 20)
            if not received:
                raise RuntimeError("chromium has ended")
            self._buffer += received
        message, self._buffer = self._buffer.split(b"\0", 1)
        value: dict[str, Any] = json.loads(message)
        return value


class Page:
    """A loaded page."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.send(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value, as JSON, of a JavaScript expression; a promise is awaited. RuntimeError where it throws."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 20.0) -> None:
        """Until the JavaScript condition holds; RuntimeError with what the page said when it does not."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(condition):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{condition} does not hold after {seconds:.0f} s; {self.complaints()}")
            time.sleep(0.02)

    def complaints(self) -> list[str]:
        """Uncaught exceptions, and errors and warnings of the browser, of the Content-Security-Policy among them."""
        found = []
        for event in self._events():
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"].get("exception", {}).get("description")))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for, its own file among them."""
        return [e["params"]["request"]["url"] for e in self._events() if e["method"] == "Network.requestWillBeSent"]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is visible, or of the whole page."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file input a file, as its dialogue does."""
        found = self.send("Runtime.evaluate", expression=f"document.querySelector({selector!r})")["result"]["objectId"]
        self.send("DOM.setFileInputFiles", files=[str(path.resolve())], objectId=found)

    def press(self, *keys: str) -> None:
        """Press and release keys by their names ("ArrowLeft", "Backspace", " ") on what has the focus."""
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                self.send("Input.dispatchKeyEvent", type=kind, key=key)

    def drag(self, points: list[tuple[float, float]], *, touch: bool = False) -> None:
        """Press at the first point (CSS pixels of the window), move through the others, release."""
        send: Callable[[int, tuple[float, float]], Any] = self._touch if touch else self._mouse
        for stage, point in [(0, points[0]), *((1, p) for p in points[1:]), (2, points[-1])]:
            send(stage, point)

    def _mouse(self, stage: int, point: tuple[float, float]) -> None:
        kind = ("mousePressed", "mouseMoved", "mouseReleased")[stage]
        x, y = point
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def _touch(self, stage: int, point: tuple[float, float]) -> None:
        kind = ("touchStart", "touchMove", "touchEnd")[stage]
        touches = [] if stage == 2 else [{"x": point[0], "y": point[1]}]
        self.send("Input.dispatchTouchEvent", type=kind, touchPoints=touches)

    def _events(self) -> list[dict[str, Any]]:
        self.evaluate("0")  # whatever was sent before this answer has arrived
        return [event for event in self._browser.events if event.get("sessionId") == self._session]
