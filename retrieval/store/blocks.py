"""Checksums of files that grow: of blocks, so that rows appended later need not sum up those before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

#: Bytes of the header of a growing file, whose count of rows changes as it grows; not summed up.
HEADER = 128

#: Bytes of a block.
BLOCK = 1 << 25


def block_digests(path: Path, size: int, known: Sequence[str] = (), known_size: int = 0) -> tuple[str, ...]:
    """SHA-256 (hexadecimal) of each block of the first ``size`` bytes of a file, after its header.

    ``known`` are those of its first ``known_size`` bytes, which are the same still. Raises OSError.
    """
    whole = max(0, known_size - HEADER) // BLOCK
    digests = list(known[:whole])
    with path.open("rb") as file:
        file.seek(HEADER + len(digests) * BLOCK)
        left = size - file.tell()
        while left > 0:
            digest, rest = hashlib.sha256(), min(BLOCK, left)
            left -= rest
            while rest > 0 and (piece := file.read(min(1 << 20, rest))):
                digest.update(piece)
                rest -= len(piece)
            digests.append(digest.hexdigest())
    return tuple(digests)


def sum_of_blocks(digests: Sequence[str]) -> str:
    """One SHA-256 (hexadecimal) for the blocks of a file."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
