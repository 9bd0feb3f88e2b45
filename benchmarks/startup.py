"""How long the command takes before it works: help, a look into an index, and the first photo of a run.

    python -m benchmarks.startup INDEX PHOTO [--runs 5] [--out benchmarks/results]

Each command is a process of its own, run in turns with the others, with one thread a process; the least of
its runs counts, on the clock and of the processor (user and system) each. To the first pass: from the start
of the process until the model is first called on the photo. On a machine that others use too, seconds of the
processor are the ones to compare. ``python``, ``import torch`` and ``import torch, timm`` are what they are
without Mycelia, and count to the end of the process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import write_table

COMMAND = "from segmentation.cli import main; main()"

#: Writes when the model is first called: the clock of the system, and the seconds of this process.
FIRST_PASS = """
import importlib.machinery, importlib.util, os, sys, time

class Watch(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "indexer.features.backbone":
            return None
        spec = super().find_spec(name, path, target)
        run = spec.loader.exec_module
        def watched(module):
            run(module)
            cut = module.Backbone.cut
            def first(self, images):
                if not told:
                    told.append(f"{time.monotonic()} {sum(os.times()[:2])}")
                    open(os.environ["FIRST_PASS"], "w").write(told[0])
                return cut(self, images)
            module.Backbone.cut = first
        spec.loader.exec_module = watched
        return spec

told = []
sys.meta_path.insert(0, Watch)
"""


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of the processor in all threads."""

    clock: float
    processor: float


def least(costs: Sequence[Cost]) -> Cost:
    """The least of each."""
    return Cost(min(cost.clock for cost in costs), min(cost.processor for cost in costs))


def run(arguments: Sequence[str]) -> Cost:
    """What a process of Python costs from start to end; CalledProcessError where it fails."""
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment()
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(arguments), stderr=said)
    return Cost(time.monotonic() - start, used.ru_utime + used.ru_stime)


def run_to_first_pass(arguments: Sequence[str]) -> Cost:
    """The same to the moment in which the model is first called."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", FIRST_PASS + COMMAND, *arguments],
            check=True,
            capture_output=True,
            env={**_environment(), "FIRST_PASS": str(told)},
        )
        reached, processor = map(float, told.read_text().split())
    return Cost(reached - start, processor)


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def cases(index: Path, photo: Path, out: Path) -> dict[str, Callable[[], Cost]]:
    """What is measured, by name."""
    segment = ["segment", str(index), str(photo), "--out", str(out), "--overwrite", "runtime.device=cpu"]
    return {
        "python": lambda: run(["-c", "pass"]),
        "import torch": lambda: run(["-c", "import torch"]),
        "import torch, timm": lambda: run(["-c", "import torch, timm"]),
        "mycelia --help": lambda: run(["-c", COMMAND, "--help"]),
        "mycelia index info": lambda: run(["-c", COMMAND, "index", "info", str(index)]),
        "mycelia segment, to the first pass": lambda: run_to_first_pass(segment),
        "mycelia segment, one photo, to the end": lambda: run(["-c", COMMAND, *segment]),
    }


def measure(measured: dict[str, Callable[[], Cost]], runs: int) -> dict[str, Cost]:
    """The least of ``runs`` of each, taken in turns after one that is not counted."""
    found: dict[str, list[Cost]] = {name: [] for name in measured}
    for turn in range(runs + 1):
        for name, case in measured.items():
            cost = case()
            if turn:  # the first fills the system's cache of files, and what is measured once a machine
                found[name].append(cost)
    return {name: least(costs) for name, costs in found.items()}


def main() -> None:
    """Measure all, in turns, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="those whose names have one of these words in them")
    parser.add_argument("--out", type=Path, help="write the tracked table to this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        all_cases = cases(arguments.index, arguments.photo, Path(folder))
        words = arguments.only or [""]
        asked = {name: case for name, case in all_cases.items() if any(word in name for word in words)}
        costs = measure(asked, arguments.runs)
    rows = [
        {"command": name, "clock s": f"{cost.clock:.2f}", "processor s": f"{cost.processor:.2f}"}
        for name, cost in costs.items()
    ]
    write_table("startup", rows, folder=arguments.out)


if __name__ == "__main__":
    main()
