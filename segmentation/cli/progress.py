"""Progress on stderr: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from retrieval.progress import ProgressEvent
from segmentation.cli.console import say

#: Seconds between two plain lines where no terminal shows a bar.
LINE_INTERVAL = 10.0


class ProgressDisplay:
    """Shows the events of long work; give it wherever a ``progress`` is asked for."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._stages: dict[str, _Lines | _Bar] = {}

    def __call__(self, event: ProgressEvent) -> None:
        """Show one event."""
        if event.event == "start":
            kind = _Bar if self._console.is_terminal else _Lines
            self._stages[event.stage] = kind(event, self._console)
        elif event.event == "advance":
            self._stages[event.stage].advance(event)
        else:
            self._stages.pop(event.stage).end()


@dataclass
class _Rate:
    """Items a second since a stage began; what was done before does not count."""

    before: int
    start: float = field(default_factory=time.monotonic)

    def after(self, done: int) -> float:
        return (done - self.before) / max(time.monotonic() - self.start, 1e-9)


class _Bar:
    """One stage on a terminal."""

    def __init__(self, event: ProgressEvent, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._shown = Progress(*columns, console=console)
        self._task: TaskID = self._shown.add_task(
            event.stage, total=event.total, completed=event.done, rate=""
        )
        self._rate = _Rate(event.done)
        self._shown.start()

    def advance(self, event: ProgressEvent) -> None:
        self._shown.update(self._task, completed=event.done, rate=f"{self._rate.after(event.done):.1f}/s")

    def end(self) -> None:
        self._shown.stop()


class _Lines:
    """One stage where nobody watches: a line now and then, and one at the end."""

    def __init__(self, event: ProgressEvent, console: Console) -> None:
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

    def end(self) -> None:
        """Nothing is left on a terminal that would have to go."""
