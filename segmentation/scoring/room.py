"""Whether a score's tables of classes by classes find room in memory, asked before they are made."""

from __future__ import annotations

import os

from retrieval.errors import ConfigError

#: Bytes that are taken for the machine's memory where it does not say.
_USUAL = 16 * 2**30


def check_room(classes: int, *, tables: int) -> None:
    """Raise ConfigError, with the numbers, where ``tables`` (C, C) int64 would take half the memory."""
    needed, memory = 8 * classes**2 * tables, machine_memory()
    if 2 * needed > memory:
        raise ConfigError(
            f"scoring {classes:,} classes takes {tables} tables of {classes:,} x {classes:,} counts, "
            f"{needed / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB of memory, of "
            "which they may take half; score on a larger machine, or build the index with fewer classes"
        )


def machine_memory() -> int:
    """Bytes of memory that this machine has, used or not."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        return _USUAL
