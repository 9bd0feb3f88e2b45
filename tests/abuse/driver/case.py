"""One input: its own folders, what may change in them, and how its end is judged."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from retrieval.errors import MyceliaError
from segmentation.cli.console import LONGEST

from ...segmentation.cli.command import run as run_command

#: Characters of an error that are shown at most: the message, and the words around it.
MOST_SHOWN = LONGEST + 100
#: A warning of Python's own: nobody thought of what caused it.
_WARNING = re.compile(r"^\S+\.py:\d+: (\w*Warning: .*)$", re.MULTILINE)

Snapshot = dict[str, tuple[int, int, int]]


class FaultError(Exception):
    """What must not happen."""


class RefusedError(Exception):
    """An error of ours, with its text: as good an end as a right answer."""


def snapshot(folder: Path) -> Snapshot:
    """Kind, size and time of everything below a folder, links not followed."""
    found: Snapshot = {}
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                state = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    found[entry.path] = (state.st_mode, 0, 0)  # a lock comes and goes: its time is no matter
                else:
                    found[entry.path] = (state.st_mode, state.st_size, state.st_mtime_ns)
    return found


@dataclass
class Case:
    """One input of a kind; equal seeds and numbers give equal inputs."""

    kind: str
    number: int
    random: Random
    fixed: Path
    """What all inputs use and none may change: data, indexes, photos; see :mod:`.world`."""
    place: Path
    """A folder of its own, with ``in``, ``out``, ``cwd`` and ``tmp``."""
    tried: str = ""
    """What was tried, for a person."""
    free: list[Path] = field(default_factory=list)
    """Where files may come, besides ``out``; and what may change there."""
    growing: list[Path] = field(default_factory=list)
    """Where files may come, and nothing that is there may change."""
    rooms: int = 0
    _before: Snapshot | None = None

    @property
    def inside(self) -> Path:
        return self.place / "in" / f"{self.rooms}" if self.rooms else self.place / "in"

    def new_room(self) -> None:
        """From here on ``inside`` is an empty folder."""
        self.rooms += 1
        self.inside.mkdir()

    @property
    def out(self) -> Path:
        return self.place / "out"

    def path(self, name: str) -> Path:
        """One of the things that stand ready."""
        return self.fixed / name

    def freeze(self) -> None:
        """From here on nothing may change but what is free."""
        if self._before is None:
            self._before = snapshot(self.place)

    def run(self, *arguments: object) -> Any:
        """The command with these arguments, its end judged: its result, or Refused or Fault is raised."""
        self.freeze()
        texts = [str(argument) for argument in arguments]
        self.tried = "mycelia " + " ".join(repr(text)[:300] if text else "''" for text in texts)
        return judged(run_command(*texts))

    def check_untouched(self) -> None:
        """Raise Fault where something changed, came or went that should not have."""
        if self._before is None:
            return
        # beside ``out``: a build that was stopped, to go on with
        free = [os.fspath(path) for path in (self.out, self.place / "out.partial", *self.free)]
        now = snapshot(self.place)
        for path in sorted(set(self._before) | set(now)):
            if any(path == place or path.startswith(place + os.sep) for place in free):
                continue
            before, after = self._before.get(path), now.get(path)
            if before is None and any(Path(path).is_relative_to(place) for place in self.growing):
                continue
            if before != after:
                what = "went" if after is None else "came" if before is None else "changed"
                raise FaultError(f"{path.removeprefix(os.fspath(self.place))!r} {what}")


def judged(result: Any) -> Any:
    """A command's result where it did its work; raises Refused for an error of ours, else Fault."""
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        raise error
    stderr = result.stderr
    if "Traceback" in stderr:
        raise FaultError(f"a traceback on stderr: {stderr[-1500:]}")
    if (warned := _WARNING.search(stderr)) is not None:
        raise FaultError(f"a warning on stderr: {warned[0]}")
    if result.exit_code == 0:
        return result
    if result.exit_code == 1:
        lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
        if len(lines) != 1:
            raise FaultError(f"{len(lines)} lines with 'error: ' at status 1: {stderr[-1500:]!r}")
    elif result.exit_code == 2:
        lines = [line for line in stderr.splitlines() if line.strip()][-1:]
    else:
        raise FaultError(f"status {result.exit_code}: {stderr[-1500:]!r}")
    check_text(lines[0] if lines else "")
    raise RefusedError(lines[0])


def check_text(text: str) -> None:
    """Raise Fault for an error's text that nobody can read."""
    if not text.strip():
        raise FaultError("an error without a text")
    if len(text) > MOST_SHOWN:
        raise FaultError(f"an error of {len(text):,} characters: {text[:200]!r}")


def refused(act: Callable[[], object]) -> None:
    """Call something of Python's side; an error of ours becomes Refused."""
    try:
        act()
    except MyceliaError as error:
        if not str(error).strip():
            raise FaultError("an error without a text") from error
        raise RefusedError(str(error)) from error
