"""Room for Qdrant Edge, asked for before each of its steps that write.

Edge writes through memory maps of files with holes. Where the disk has no room left for a page of
one, the system ends the process (SIGBUS) and nobody can say why, so a step begins only where it can end.
"""

from __future__ import annotations

from pathlib import Path

from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.engines.qdrant.sizing import bytes_per_row
from retrieval.store.room import check_disk, in_units

#: Bytes of the files of an empty segment. They are holes, 0.2 MB in all on ext4; tmpfs fills 52 MB of them
#: (measured). The rest is a margin for what other processes write meanwhile.
SEGMENT = 64e6


def check_room(folder: Path, settings: QdrantSettings, width: int, rows: int, *, segments: int = 1) -> None:
    """Raise StorageError where ``folder`` has no room to write ``rows`` vectors of ``width`` numbers.

    ``segments`` is how often they are there at once: 2 for a new index, whose graph is built on a copy.
    """
    need = segments * (SEGMENT + rows * bytes_per_row(settings, width).disk)
    what = f"writing {rows:,} vectors with Qdrant Edge, its margin of {in_units(SEGMENT)} included,"
    check_disk(folder, need, what, instead=", or take index.engine=faiss")


def check_room_to_copy(folder: Path, size: int) -> None:
    """Raise StorageError where ``folder`` has no room for a copy of ``size`` bytes that Edge then opens."""
    check_disk(folder, size + SEGMENT, "changing the vectors of Qdrant Edge, which are copied first,")
