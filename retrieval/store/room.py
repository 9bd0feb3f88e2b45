"""Room on a disk, asked for before it is used."""

from __future__ import annotations

import shutil
from pathlib import Path

from retrieval.errors import StorageError


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
            f"{what} takes up to {in_units(need)} of disk, margin included, and {in_units(free)} are free "
            f"where {folder} is; free some space or choose another folder{instead} "
            "(what was there before is unchanged)"
        )


def in_units(count: float) -> str:
    """Bytes as a person reads them: ``812 MB``, ``2.4 GB``; decimal units."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
