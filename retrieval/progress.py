"""Progress as data: long work reports events to a callback, and who shows them is another's business."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ProgressEvent:
    """A stage of the work began, came further or ended: ``done`` of ``total`` items."""

    event: Literal["start", "advance", "end"]
    stage: str
    done: int
    total: int


#: Hears of events; also from threads other than the caller's, those of one stage in their order.
Progress = Callable[[ProgressEvent], None]


class Task:
    """One stage that advances; several threads may say so."""

    def __init__(self, progress: Progress | None, stage: str, total: int, done: int) -> None:
        """Use :func:`track`."""
        self._progress, self._stage, self._total, self._done = progress, stage, total, done
        self._lock = threading.Lock()

    def advance(self, n: int = 1) -> None:
        """Say that ``n`` more items are done."""
        self.report("advance", n)

    def report(self, event: Literal["start", "advance", "end"], n: int = 0) -> None:
        """Tell the callback, where there is one, of an event after which ``n`` more items are done."""
        with self._lock:
            self._done += n
            if self._progress is not None:
                self._progress(ProgressEvent(event, self._stage, self._done, self._total))


@contextmanager
def track(progress: Progress | None, stage: str, total: int, *, done: int = 0) -> Iterator[Task]:
    """A stage of ``total`` items of which ``done`` were done before; ``progress`` hears of it, or nobody."""
    task = Task(progress, stage, total, done)
    task.report("start")
    try:
        yield task
    finally:
        task.report("end")
