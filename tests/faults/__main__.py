"""Faults in everything that changes an index: ``python -m tests.faults --points 400 --seed 1``.

Prints a table of engine x change x fault: how many points, how many left the old index, the new one,
or a broken one; and names what a change without faults leaves to a power cut, since it was not synced
before it was to be seen. Ends with status 1 where anything is wrong, and 2 where faults cannot be injected.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .injector import FAULTS, Injector, compile_library, environment, why_not

_STARTED = "MYCELIA_FAULTS"

#: What is loaded before the forks, which then need not.
_LOADED = (
    *("faiss", "qdrant_edge", "timm", "PIL.PngImagePlugin", "indexer.bank.build", "indexer.features.fungi"),
    *("retrieval.engines.exact_search", "retrieval.engines.faiss_search"),
    *("retrieval.engines.qdrant.edge_index", "retrieval.engines.tail"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--points", type=int, default=400, help="faults to inject, over all cases")
    parser.add_argument("--seed", type=int, default=1, help="chooses the points")
    parser.add_argument("--only", default="", help="cases that this pattern is in: 'qdrant, (add|remove)'")
    parser.add_argument(
        "--markdown", action="store_true", help="print the table as Markdown, a line a change"
    )
    asked = parser.parse_args()
    if why := why_not():
        print(f"faults cannot be injected: {why}", file=sys.stderr)
        return 2
    if _STARTED not in os.environ:
        return _start_again()
    return _run(asked)


def _start_again() -> int:
    """The same command in a process whose calls go through the injector."""
    import subprocess

    with tempfile.TemporaryDirectory(prefix="mycelia-inject-") as folder:
        library = compile_library(Path(folder))
        command = [sys.executable, "-m", "tests.faults", *sys.argv[1:]]
        return subprocess.run(command, env={**environment(library), _STARTED: "1"}, check=False).returncode


def _run(asked: argparse.Namespace) -> int:
    import torch

    torch.set_num_threads(1)
    for name in _LOADED:
        importlib.import_module(name)

    from .campaign import Case, Point, run_points
    from .changes import cases

    chosen = [case for case in cases() if re.search(asked.only, ", ".join(case))]
    begun, points = time.monotonic(), list[Point]()
    total: dict[tuple[str, str], int] = {}
    unsynced: list[str] = []

    def say(case: Case) -> None:
        total[case.engine, case.name] = len(case.calls)
        if case.unsynced:
            unsynced.append(case.name)
            print(f"UNSYNCED {case.engine}, {case.name}: {', '.join(case.unsynced)}", flush=True)

    for point in run_points(chosen, asked.points, asked.seed, Injector(), say):
        points.append(point)
        if point.broken:
            where = f"{point.engine}, {point.change}, {point.fault} at {point.number} ({point.kind})"
            print(f"BROKEN {where}: ended {point.end}; {point.state}", flush=True)
    (_print_markdown if asked.markdown else _print_plain)(points, total)
    broken = sum(point.broken for point in points)
    seconds = time.monotonic() - begun
    each = seconds / max(1, len(points))
    print(f"\n{len(points)} points, {broken} broken, {seconds:.0f} s ({each:.2f} s each)")
    return 1 if broken or unsynced else 0


def _print_plain(points: list, total: dict[tuple[str, str], int]) -> None:
    form = "{:12} {:8} {:6} {:>6} {:>6} {:>6} {:>6}"
    print(form.format("engine", "change", "fault", "points", "old", "new", "broken"))
    for engine, change in total:
        for fault in FAULTS[1:]:
            here = [p for p in points if (p.engine, p.change, p.fault) == (engine, change, fault)]
            if here:
                print(form.format(engine, change, fault, len(here), *_tally(here)))


def _print_markdown(points: list, total: dict[tuple[str, str], int]) -> None:
    print("| engine | change | calls | " + " | ".join(FAULTS[1:]) + " | broken |")
    print("| --- | --- | ---: | " + "--- | " * (len(FAULTS) - 1) + "---: |")
    for (engine, change), calls in total.items():
        here = [p for p in points if (p.engine, p.change) == (engine, change)]
        cells = []
        for fault in FAULTS[1:]:
            old, new, _ = _tally([p for p in here if p.fault == fault])
            cells.append(f"{old} / {new}")
        print(f"| {engine} | {change} | {calls} | {' | '.join(cells)} | {sum(p.broken for p in here)} |")


def _tally(points: list) -> tuple[int, int, int]:
    found = Counter("broken" if p.broken else p.state for p in points)
    return found["old"], found["new"], found["broken"]


if __name__ == "__main__":
    sys.exit(main())
