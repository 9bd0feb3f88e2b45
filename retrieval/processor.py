"""Which arithmetic this machine's processor is fast in: measured once, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from retrieval.errors import MyceliaError
from retrieval.json_text import ParseError, parse_json
from retrieval.store.cache import cache_folder
from retrieval.store.files import atomic_write

KEPT = "arithmetic.json"
#: So many times as fast as float32 must bfloat16 be before it is taken.
WORTH = 1.25
#: Turns of each of two that are timed side by side; the fastest counts, others had company.
_TURNS = 5


#: What this process has asked for already, by machine and name.
_known: dict[tuple[str, str], float] = {}


def measured(name: str, measure: Callable[[], float]) -> float:
    """A figure of this processor: the one kept under ``name``, or what ``measure`` finds now.

    Kept by processor, torch version and number of threads, in ``arithmetic.json`` of the cache; where the
    cache cannot be written, it is measured once a process.
    """
    machine = _machine(torch.get_num_threads())
    if (machine, name) not in _known:
        path = cache_folder() / KEPT
        value = _read(path).get(machine, {}).get(name)
        if value is None:
            value = measure()
            if math.isfinite(value):
                _keep(path, machine, name, value)
        _known[machine, name] = value
    return _known[machine, name]


def speedup(plain: Callable[[], object], other: Callable[[], object]) -> float:
    """How many times as fast as ``plain`` the ``other`` is: the best of some turns taken side by side."""
    best = [float("inf"), float("inf")]
    for turn in range(_TURNS + 1):  # the first prepares kernels and memory
        for which, run in enumerate((plain, other)):
            start = time.perf_counter()
            run()
            if turn:
                best[which] = min(best[which], time.perf_counter() - start)
    return best[0] / max(best[1], 1e-9)


def bfloat16_product_pays() -> bool:
    """Whether the CPU multiplies matrices enough faster in bfloat16 than in float32."""
    return measured("bfloat16 product", _product_speedup) >= WORTH


@torch.inference_mode()
def _product_speedup() -> float:
    """Of 256 queries and 4,096 rows of 384 numbers: 2 ms in float32 on two cores."""
    rows, queries = torch.ones(4096, 384), torch.ones(256, 384)
    low_rows, low_queries = rows.bfloat16(), queries.bfloat16()
    return speedup(lambda: queries @ rows.T, lambda: low_queries @ low_rows.T)


@cache
def _machine(threads: int) -> str:
    return f"{processor_name()}, {_flags()}, torch {torch.__version__}, {threads} threads"


@cache
def processor_name() -> str:
    """The processor's name, as Linux tells it, else as Python does."""
    named = [value for key, value in _cpuinfo() if key == "model name"]
    return named[0] if named else platform.processor() or platform.machine()


def _flags() -> str:
    """What the processor can, in a few letters: processors of one name differ between clouds."""
    flags = next((value for key, value in _cpuinfo() if key in ("flags", "Features")), "")
    return hashlib.sha256(flags.encode()).hexdigest()[:8]


def _cpuinfo() -> list[tuple[str, str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _read(path: Path) -> dict[str, dict[str, float]]:
    """What is kept, as far as it makes sense; a file that does not is measured anew."""
    try:
        kept = parse_json(path.read_bytes())
    except (OSError, ParseError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {
        machine: {name: value for name, value in figures.items() if isinstance(value, (int, float))}
        for machine, figures in kept.items()
        if isinstance(figures, dict)
    }


def _keep(path: Path, machine: str, name: str, value: float) -> None:
    kept = _read(path)
    kept.setdefault(machine, {})[name] = value
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(kept, indent=1).encode())
    except (OSError, MyceliaError):
        pass  # measured again by the next process
