"""What is shown while an epoch runs: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

__all__ = ["EpochProgress", "Running", "activity"]


@contextmanager
def activity(title: str) -> Iterator[None]:
    """Show on stderr that something without a known length is under way: a spinner on a terminal, else one line."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(title):
            yield
    else:
        print(title, file=sys.stderr, flush=True)
        yield


class Running:
    """Sample-weighted means of loss, accuracy and firing rate over the epoch so far."""

    def __init__(self) -> None:
        self.samples = 0
        self.sums = [0.0, 0.0, 0.0]

    def add(self, loss: Tensor, accuracy: Tensor, rate: Tensor, samples: int) -> None:
        self.samples += samples
        for i, value in enumerate((loss, accuracy, rate)):
            self.sums[i] += value.item() * samples

    def record(self) -> dict[str, float]:
        """{"loss", "accuracy", "firing_rate"} of the samples seen."""
        return dict(
            zip(("loss", "accuracy", "firing_rate"), (s / max(self.samples, 1) for s in self.sums), strict=True)
        )


class EpochProgress:
    """Context manager with ``advance(running)`` after each batch. Writes to stderr; silent unless ``visible``."""

    def __init__(self, title: str, batches: int, *, visible: bool) -> None:
        self.title, self.batches, self.visible = title, batches, visible
        self.console = Console(stderr=True)
        self.began = time.perf_counter()
        self.latest: Running | None = None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self.bar = Progress(*columns, console=self.console, disable=not (visible and self.console.is_terminal))
        self.task = self.bar.add_task(title, total=batches, rate="", figures="")

    def __enter__(self) -> EpochProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.stop()
        if kind is None and self.visible and not self.console.is_terminal and self.latest is not None:
            elapsed = time.perf_counter() - self.began
            print(
                f"{self.title}: {self._figures(self.latest)}, {self._rate(self.latest)}, {elapsed:.0f} s",
                file=sys.stderr,
            )

    def advance(self, running: Running) -> None:
        self.latest = running
        self.bar.update(self.task, advance=1, rate=self._rate(running), figures=self._figures(running))

    def _rate(self, running: Running) -> str:
        return f"{running.samples / max(time.perf_counter() - self.began, 1e-9):.0f} samples/s"

    @staticmethod
    def _figures(running: Running) -> str:
        r = running.record()
        return f"loss {r['loss']:.3f}, accuracy {100 * r['accuracy']:.1f} %, firing {100 * r['firing_rate']:.1f} %"
