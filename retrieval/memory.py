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


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that new data can take without swapping: what Linux says, elsewhere half of the machine's."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return machine_memory() // 2
