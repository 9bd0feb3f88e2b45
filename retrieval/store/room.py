"""Room on a disk and in memory, asked for before it is used."""

from __future__ import annotations

import shutil
from pathlib import Path

from retrieval.errors import ConfigError, StorageError
from retrieval.memory import free_memory


def free_bytes(folder: Path) -> int | None:
    """Bytes that the file system of ``folder``, or of the nearest folder above that is there, has free.

    None where the system does not tell. What a quota leaves is not asked for.
    """
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            break
    return None


def check_disk(folder: Path, need: float, what: str, *, instead: str = "") -> None:
    """Raise StorageError where ``folder`` has fewer than ``need`` bytes free for ``what`` (a phrase).

    ``instead`` is what else could be done, in words.
    """
    free = free_bytes(folder)
    if free is not None and free < need:
        raise StorageError(
            f"{what} takes about {in_units(need)} of disk, and {in_units(free)} are free "
            f"where {folder} is; free some space or choose another folder{instead} "
            "(what was there before is unchanged)"
        )


def check_memory(need: float, what: str, *, instead: str = "") -> None:
    """Raise ConfigError where fewer than ``need`` bytes of memory are free; else as :func:`check_disk`."""
    free = free_memory()
    if free is not None and free < need:
        raise ConfigError(
            f"{what} takes at least {in_units(need)} of memory, and {in_units(free)} are free; end other "
            f"programs or take a larger machine{instead}"
        )


def in_units(count: float) -> str:
    """Bytes as a person reads them: ``7 kB``, ``812 MB``, ``2.4 GB``; decimal units."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{max(0.0, count) / 1e3:,.0f} kB"
