"""Whether a score's tables of classes by classes find room in memory, asked before they are made."""

from __future__ import annotations

from retrieval.errors import ConfigError
from retrieval.memory import machine_memory


def check_room(classes: int, *, tables: int) -> None:
    """Raise ConfigError, with the numbers, where ``tables`` (C, C) int64 would take half the memory."""
    needed, memory = 8 * classes**2 * tables, machine_memory()
    if 2 * needed > memory:
        raise ConfigError(
            f"scoring {classes:,} classes takes {tables} tables of {classes:,} x {classes:,} counts, "
            f"{needed / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB of memory, of "
            "which they may take half; score on a larger machine, or build the index with fewer classes"
        )
