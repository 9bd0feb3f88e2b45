"""How much memory this machine has, and how much of it is free."""

from __future__ import annotations

import os
from pathlib import Path

#: Bytes that are taken for the machine's memory where it does not say.
_USUAL = 16 * 2**30


def machine_memory() -> int:
    """Bytes of memory that this machine has, used or not."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        return _USUAL


def free_memory() -> int | None:
    """Bytes of memory that programs can have without others being swapped out; None where nobody tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(line.split() for line in lines if line.startswith("MemAvailable:"))
        return int(found[1]) * 1024
    except (OSError, ValueError, StopIteration, IndexError):
        return None
