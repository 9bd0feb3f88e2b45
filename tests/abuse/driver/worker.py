"""Processes that try inputs one after the other; the one that waits for them ends what hangs or dies."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

from retrieval.errors import MyceliaError

from .case import Case, FaultError, RefusedError
from .guard import MOST_MEMORY, Guard

#: Seconds that an input may take, the machine shared with others; a kind's few heavy ones come to a few.
MOST_SECONDS = 60.0
#: Inputs of one process.
BATCH = 400

Act = Callable[[Case], object]
Which = tuple[str, int]


@dataclass(frozen=True)
class Outcome:
    """How one input ended."""

    kind: str
    number: int
    end: str
    """right, error or fault."""
    tried: str
    said: str
    where: str = ""
    """Of a fault, the line it came from: equal ones are one fault."""
    seconds: float = 0.0
    memory: int = 0
    """MiB at most, on top of what the process had."""


def try_one(root: Path, fixed: Path, act: Act, which: Which, seed: int, guard: Guard | None) -> Outcome:
    """Try one input in a folder of its own below ``root``."""
    kind, number = which
    place = root / "place"
    shutil.rmtree(place, ignore_errors=True)
    for name in ("in", "cwd", "tmp"):
        (place / name).mkdir(parents=True)
    os.chdir(place / "cwd")
    tempfile.tempdir = os.fspath(place / "tmp")
    case = Case(kind, number, Random(f"{seed}:{kind}:{number}"), fixed, place)
    if guard is not None:
        guard.begin()
    start = time.perf_counter()
    end, said, where = _ending(case, act, guard)
    seconds, memory = time.perf_counter() - start, guard.taken() if guard else 0
    if end != "fault" and memory > MOST_MEMORY:
        end, said, where = "fault", f"took {memory:,} MiB", "memory"
    return Outcome(kind, number, end, case.tried, said, where, seconds, memory)


def _ending(case: Case, act: Act, guard: Guard | None) -> tuple[str, str, str]:
    try:
        end, said = "right", ""
        try:
            act(case)
        except RefusedError as refusal:
            end, said = "error", str(refusal)
        except MyceliaError as error:  # of a call
            end, said = "error", str(error)
        if guard is not None and guard.breaches:
            raise FaultError(f"{guard.breaches[0]}; in the end: {end} {said}")
        case.check_untouched()
        return end, said[:400], ""
    except FaultError as fault:
        return "fault", str(fault), str(fault)[:60]
    except BaseException as error:
        trace = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in trace if "/site-packages/" not in frame.filename]
        last = (ours or trace)[-1]
        where = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        if guard is not None and guard.breaches:
            where = guard.breaches[0][:60]
        return "fault", "".join(traceback.format_exception(error))[-3000:], where


def _serve(
    pipe: int, root: Path, fixed: Path, acts: dict[str, Act], batch: Sequence[Which], seed: int
) -> None:
    """The life of a process: its inputs, a line of JSON before and after each."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    os.dup2(null, 2)
    faulthandler.disable()  # a death is told by its signal
    stack = (root / "stack").open("w")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        os.environ[name] = os.fspath(root / "home")
    sys.dont_write_bytecode = True
    _hasten()
    warnings.simplefilter("default")
    warnings.filterwarnings("ignore", module=r"PIL(\.|$)")  # as the command does
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    guard = Guard(root, fixed)
    guard.start()
    with os.fdopen(pipe, "w", buffering=1, errors="backslashreplace") as lines:
        for which in batch:
            print(json.dumps(["start", *which]), file=lines)
            faulthandler.dump_traceback_later(0.9 * MOST_SECONDS, file=stack)
            outcome = try_one(root, fixed, acts[which[0]], which, seed, guard)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(["end", asdict(outcome)]), file=lines)


def _hasten() -> None:
    """Leave out what costs time and changes no end: the command's options made anew, waiting for the disk."""
    from typer import testing

    made = testing._get_command
    testing._get_command = cache(made)  # type: ignore[attr-defined]
    os.fsync = lambda _: None


def outcomes(
    root: Path, fixed: Path, acts: dict[str, Act], inputs: Iterator[Which], seed: int
) -> Iterator[Outcome]:
    """How each input ends; stops when ``inputs`` do, or when this is closed."""
    waiting: list[Which] = []
    while True:
        while len(waiting) < BATCH and (which := next(inputs, None)) is not None:
            waiting.append(which)
        if not waiting:
            return
        done = 0
        for outcome in _of_batch(root, fixed, acts, waiting, seed):
            done += 1
            yield outcome
        waiting = waiting[max(1, done) :]


def _of_batch(
    root: Path, fixed: Path, acts: dict[str, Act], batch: Sequence[Which], seed: int
) -> Iterator[Outcome]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        status = 1
        try:
            _serve(writing, root, fixed, acts, batch, seed)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    current: Which | None = None
    try:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            for message in _messages(pipe.fileno()):
                if message is None:
                    os.kill(child, signal.SIGKILL)
                    if current is not None:
                        where = f"did not end within {MOST_SECONDS:.0f} s"
                        yield replace(_lost(current, where), said=(root / "stack").read_text()[:4000])
                    return
                if message[0] == "start":
                    current = (message[1], message[2])
                else:
                    current = None
                    yield Outcome(**message[1])
    finally:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if current is not None:
        ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status >> 8}"
        yield _lost(current, f"the process died: {ended}")


def _lost(which: Which, said: str) -> Outcome:
    return Outcome(*which, "fault", "repeat it to see what was tried", said, said)


def _messages(pipe: int) -> Iterator[list[object] | None]:  # type: ignore[misc]
    """Parsed lines; None where none comes for too long."""
    held = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], MOST_SECONDS)
        if not ready:
            yield None
            return
        more = os.read(pipe, 1 << 16)
        if not more:
            return
        held += more
        *whole, held = held.split(b"\n")
        for line in whole:
            yield json.loads(line)
