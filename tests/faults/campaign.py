"""Faults at points of changes, each in a process of its own, and what the index is afterwards."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval import IndexFolder
from retrieval.edit.remove import remove_images
from retrieval.errors import MyceliaError
from retrieval.store.copying import copy_folder

from .changes import CHANGES, set_up, state_of
from .durable import unsynced
from .injector import FAULTS, Injector

#: Seconds after which a process is taken to hang.
PATIENCE = 60.0


@dataclass(frozen=True)
class Point:
    """One fault: where it was injected, how the run ended and what was found."""

    engine: str
    change: str
    fault: str
    number: int
    kind: str
    """Of the call."""
    end: str
    """``done``, ``error``, ``killed``, or what must not be."""
    state: str
    """``old``, ``new``, or what is broken about it, in words."""

    @property
    def broken(self) -> bool:
        return self.state not in ("old", "new")


class Case:
    """One change on one engine: its folder as it is before, and the two states that may be."""

    def __init__(self, engine: str, change: str, work: Path, injector: Injector) -> None:
        self.engine, self.name, self.work, self._injector = engine, change, work, injector
        self._settings = set_up(engine)
        self._change = CHANGES[change]
        self._base = work / "base"
        self._base.mkdir()
        self._sure(lambda: self._change.fill(self._base, self._settings))
        self.old = self._sure(lambda: state_of(self._base / self._change.result))
        self._source = self._sure(lambda: state_of(self._base / "index"))
        folder = self._fresh()
        found = self._sure(lambda: self._count(folder))
        self.calls: list[str] = [kind for kind, _ in found]
        self.unsynced: list[str] = self._sure(lambda: unsynced(found, folder / self._change.result))
        """What a power cut after the change could take away; nothing is good."""
        self.new = self._sure(lambda: state_of(folder / self._change.result))
        assert self.new is not None and self.new != self.old and len(self.calls) > 3, (engine, change)

    def inject(self, fault: str, number: int) -> Point:
        """Let a fault happen, and look what it left, and whether the next run works."""
        folder = self._fresh()
        how, found = in_child(lambda: self._attempt(folder, fault, number))
        end = found if how == "ended" else how
        state = self._judge(folder, fault, end)
        return Point(self.engine, self.name, fault, number, self.calls[number - 1], end, state)

    def _judge(self, folder: Path, fault: str, end: str) -> str:
        allowed = ("done", "error") if fault in ("full", "error", "dead") else ("done", "killed")
        if end.split(":")[0] not in allowed:
            return f"the run ended with {end}"
        how, state = in_child(lambda: self._look(folder, end))
        return str(state) if how == "ended" else f"{how} while looking at the index"

    def _attempt(self, folder: Path, fault: str, number: int) -> str:
        self._injector.arm(folder, number, fault)
        try:
            self._change.run(folder, self._settings)
            return "done"
        except MyceliaError as error:
            said = str(error)
            return "error" if len(said) < 600 and "\n" not in said else f"no sentence: {said}"
        except BaseException as error:
            where = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            return f"traceback: {type(error).__name__}: {error} ({' '.join(where[-5:])})"
        finally:
            self._injector.disarm()

    def _look(self, folder: Path, end: str) -> str:
        """The state that was left; raises where it is broken or the next change does not work."""
        result = folder / self._change.result
        left = state_of(result)
        state = "old" if left == self.old else "new" if left == self.new else "neither old nor new"
        if state == "neither old nor new" or (end == "done" and state == "old"):
            return f"{state} after {end}"
        if result.name != "index" and (folder / "index").exists():
            assert state_of(folder / "index") == self._source, "the source has changed"
        try:
            self._change.run(folder, self._settings)
            again = state == "old" or self._change.repeats
        except MyceliaError as error:
            again = state == "new" and not self._change.repeats
            assert again, f"the next run says: {error}"
        assert again, "the next run did it twice"
        assert state_of(result) == self.new, "the next run leads elsewhere"
        self._check_swept(folder, result)
        return state

    def _check_swept(self, folder: Path, result: Path) -> None:
        """After one more change nothing is left of the one that was stopped."""
        remove_images(result, ["photo2"])
        unlisted = IndexFolder.open(result).verify()
        parts = [path.name for path in result.rglob("*") if path.suffix in (".part", ".lock")]
        known = {path.name for path in self._base.iterdir()} | {self._change.result}
        beside = [p.name for p in folder.iterdir() if p.name not in known and not p.name.endswith(".lock")]
        assert not unlisted + parts + beside, f"left over: {unlisted + parts + beside}"

    def _count(self, folder: Path) -> list[tuple[str, str]]:
        self._injector.arm(folder, 0, "none")
        self._change.run(folder, self._settings)
        return self._injector.disarm()

    def _fresh(self) -> Path:
        folder = self.work / "point"
        shutil.rmtree(folder, ignore_errors=True)
        copy_folder(self._base, folder)
        return folder

    def _sure(self, job: Callable[[], Any]) -> Any:
        how, found = in_child(job)
        if how != "ended":
            raise RuntimeError(f"{self.engine}, {self.name}: {how}")
        return found


def run_points(
    chosen: list[tuple[str, str]], points: int, seed: int, injector: Injector, say: Callable[[Case], None]
) -> Iterator[Point]:
    """Faults spread evenly over cases and kinds of fault, at points drawn from ``seed``."""
    cells = [(case, fault) for case in chosen for fault in FAULTS[1:]]
    each, more = divmod(points, len(cells))
    share = {cell: each + (i < more) for i, cell in enumerate(random.Random(seed).sample(cells, len(cells)))}
    with tempfile.TemporaryDirectory(prefix="mycelia-faults-") as name:
        for engine, change in chosen:
            wanted = {fault: share[(engine, change), fault] for fault in FAULTS[1:]}
            if not any(wanted.values()):
                continue
            work = Path(name) / f"{engine}-{change}"
            work.mkdir()
            case = Case(engine, change, work, injector)
            say(case)
            for fault, count in wanted.items():
                rng = random.Random(f"{seed} {engine} {change} {fault}")
                numbers = range(1, len(case.calls) + 1)
                for number in rng.sample(numbers, min(count, len(numbers))):
                    yield case.inject(fault, number)
            shutil.rmtree(work)


def in_child(job: Callable[[], Any]) -> tuple[str, Any]:
    """Run ``job`` in a fork; (``ended``, what it gives), or how else it came to an end, in words."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer = ["ended", job()]
        except BaseException as error:
            answer = [" ".join(f"{type(error).__name__}: {error}".split()), None]
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    try:
        content = _read(reading, child)
    finally:
        os.close(reading)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return ("killed" if number == signal.SIGKILL else signal.Signals(number).name), None
    how, found = json.loads(content)
    return how, found


def _read(descriptor: int, child: int) -> bytes:
    end, content = time.monotonic() + PATIENCE, b""
    while select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return content
        content += piece
    os.kill(child, signal.SIGABRT)  # it hangs; told apart from a kill that was asked for
    return content
