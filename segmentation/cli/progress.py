"""Progress on stderr: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retrieval.progress import ProgressEvent
from segmentation.cli.console import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

#: Seconds between two plain lines where no terminal shows a bar.
LINE_INTERVAL = 10.0


class ProgressDisplay:
    """Shows the events of long work; give it wherever a ``progress`` is asked for."""

    def __init__(self, console: Console | None = None) -> None:
        """``console`` is stderr's without one."""
        from rich.console import Console

        self._console = console or Console(stderr=True)
        self._stages: dict[str, _Lines | _Bar] = {}
        self._bars: Progress | None = None

    def __call__(self, event: ProgressEvent) -> None:
        """Show one event."""
        if event.event == "start":
            self._stages[event.stage] = self._begin(event)
        elif event.event == "advance":
            if event.stage in self._stages:
                self._stages[event.stage].advance(event)
        else:
            self._stages.pop(event.stage, None)
            if self._bars is not None and not self._stages:
                self._bars.stop()
                self._bars = None

    def _begin(self, event: ProgressEvent) -> _Lines | _Bar:
        if not self._console.is_terminal:
            return _Lines(event)
        if self._bars is None:  # one for stages within stages: a terminal has room for one
            self._bars = _bars(self._console)
            self._bars.start()
        return _Bar(event, self._bars)


def _bars(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        redirect_stdout=sys.stdout.isatty(),  # results that go into a file stay there
    )


@dataclass
class _Rate:
    """Items a second since a stage began; what was done before does not count."""

    before: int
    start: float = field(default_factory=time.monotonic)

    def after(self, done: int) -> float:
        return (done - self.before) / max(time.monotonic() - self.start, 1e-9)


class _Bar:
    """One stage on a terminal."""

    def __init__(self, event: ProgressEvent, bars: Progress) -> None:
        self._bars, self._rate = bars, _Rate(event.done)
        self._task = bars.add_task(event.stage, total=event.total, completed=event.done, rate="")

    def advance(self, event: ProgressEvent) -> None:
        self._bars.update(self._task, completed=event.done, rate=f"{self._rate.after(event.done):.1f}/s")


class _Lines:
    """One stage where nobody watches: a line now and then, and one at the end."""

    def __init__(self, event: ProgressEvent) -> None:
        self._rate = _Rate(event.done)
        self._last = self._rate.start

    def advance(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        if now - self._last < LINE_INTERVAL and event.done < event.total:
            return
        self._last = now
        rate = self._rate.after(event.done)
        left = (event.total - event.done) / max(rate, 1e-9)
        say(f"{event.stage}: {event.done}/{event.total}  {rate:.1f}/s  {left:.0f} s left")
