"""Progress on stderr: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Seconds between two plain lines where no terminal shows a bar.
LINE_INTERVAL = 10.0


class Task(Protocol):
    """One piece of work that advances; several threads may say so."""

    def advance(self, n: int = 1) -> None:
        """Say that ``n`` more items are done."""


class _Bar:
    def __init__(self, progress: Progress, description: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, completed=done, rate="")
        self._start, self._count, self._lock = time.monotonic(), 0, threading.Lock()

    def advance(self, n: int = 1) -> None:
        with self._lock:
            self._count += n
            rate = self._count / max(time.monotonic() - self._start, 1e-9)
        self._progress.update(self._task, advance=n, rate=f"{rate:.1f}/s")


class _Lines:
    def __init__(self, description: str, total: int, done: int) -> None:
        self._description, self._total, self._done, self._count = description, total, done, 0
        self._start = self._last = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, n: int = 1) -> None:
        with self._lock:
            self._advance(n)

    def _advance(self, n: int) -> None:
        self._done += n
        self._count += n
        now = time.monotonic()
        if now - self._last < LINE_INTERVAL and self._done < self._total:
            return
        self._last = now
        rate = self._count / max(now - self._start, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        print(
            f"{self._description}: {self._done}/{self._total}  {rate:.1f}/s  {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def track(description: str, total: int, *, done: int = 0) -> Iterator[Task]:
    """A task of ``total`` items of which ``done`` were done before (they do not count in the rate)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(description, total, done)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, description, total, done)
