"""``python -m tests.abuse``: abusive inputs for an hour, a table of their ends; status 1 for a fault."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from .driver.worker import Act, Outcome, Which, outcomes


def main() -> int:
    """Try inputs until the time or their number is up."""
    asked = _arguments()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: forks take one thread along
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from .driver.kinds import KINDS, WEIGHTS

    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    chosen = [name for name in KINDS if not asked.kinds or name in asked.kinds.split(",")]
    print(f"seed {seed}; kinds: {', '.join(chosen)}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="abuse-"))
    try:
        fixed = _world(root)
        acts: dict[str, Act] = {name: KINDS[name] for name in chosen}
        start, ended = time.monotonic(), []
        inputs = _repeated(asked.repeat) if asked.repeat else _inputs(chosen, WEIGHTS)
        number = len(asked.repeat) if asked.repeat else asked.inputs
        if number is None or asked.repeat:
            inputs = _until(inputs, start + 60 * asked.minutes)
        stream = outcomes(root, fixed, acts, itertools.islice(inputs, number), seed)
        for outcome in stream:
            ended.append(outcome)
            if asked.repeat or outcome.end == "fault":
                _show(outcome, ended)
            if asked.json:
                with Path(asked.json).open("a") as file:
                    print(json.dumps(asdict(outcome)), file=file)
        return _summary(ended, chosen, seed, time.monotonic() - start)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long, where --inputs does not say")
    parser.add_argument("--inputs", type=int, help="how many")
    parser.add_argument("--seed", type=int, help="of an earlier run; a fresh one without")
    parser.add_argument("--kinds", help="some kinds alone, a,b")
    parser.add_argument("--repeat", nargs="+", metavar="KIND:NUMBER", help="these inputs alone; needs --seed")
    parser.add_argument("--json", metavar="FILE", help="append every outcome, a line of JSON each")
    return parser.parse_args()


def _world(root: Path) -> Path:
    """The world, made by a process of its own, so that this one never runs the model: its forks do."""
    from .driver.world import make_world

    child = os.fork()
    if not child:
        status = 1
        try:
            make_world(root)
            status = 0
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("what the inputs are tried on could not be made")
    return root / "fixed"


def _inputs(chosen: list[str], weights: dict[str, int]) -> Iterator[Which]:
    """Kinds in turn, some more often than others, numbered from 0 each."""
    for turn in itertools.count():
        for kind in chosen:
            for number in range(turn * weights[kind], (turn + 1) * weights[kind]):
                yield kind, number


def _repeated(texts: list[str]) -> Iterator[Which]:
    for text in texts:
        kind, _, number = text.partition(":")
        yield kind, int(number)


def _until(inputs: Iterator[Which], end: float) -> Iterator[Which]:
    for which in inputs:
        if time.monotonic() >= end:
            return
        yield which


def _show(outcome: Outcome, before: list[Outcome]) -> None:
    """A fault at length where it is new, else in a line."""
    print(f"{outcome.end} of {outcome.kind}:{outcome.number}: {outcome.where}", flush=True)
    known = sum(each.where == outcome.where and each.end == outcome.end for each in before) > 1
    if not known or outcome.end != "fault":
        print(f"  tried: {outcome.tried[:1500]}\n  {outcome.said}", flush=True)


def _summary(ended: list[Outcome], kinds: list[str], seed: int, seconds: float) -> int:
    print(f"\n| kind | inputs | right answer | our error | fault | slowest | most memory |\n{'| --- ' * 7}|")
    for kind in [*kinds, "all"]:
        own = [outcome for outcome in ended if kind in (outcome.kind, "all")]
        counts = [sum(outcome.end == end for outcome in own) for end in ("right", "error", "fault")]
        slowest, most = (max((getattr(o, key) for o in own), default=0) for key in ("seconds", "memory"))
        cells = [
            kind,
            f"{len(own):,}",
            *(f"{count:,}" for count in counts),
            f"{slowest:.1f} s",
            f"{most} MiB",
        ]
        print(f"| {' | '.join(cells)} |")
    rate = len(ended) / max(seconds, 1e-9)
    print(f"\n{len(ended):,} inputs in {seconds:.0f} s, {rate:.0f} a second; seed {seed}")
    faults = {outcome.where: outcome for outcome in reversed(ended) if outcome.end == "fault"}
    for where, outcome in faults.items():
        again = f"python -m tests.abuse --seed {seed} --repeat {outcome.kind}:{outcome.number}"
        print(f"fault: {where}\n  again: {again}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
