"""A change of an index in its place: one at a time, rows and image records in one commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retrieval.engines.registry import local_folder
from retrieval.folder import IndexFolder
from retrieval.index import PatchIndex
from retrieval.store.layout import CHANGE_LOCK
from retrieval.store.lock import WAIT, Lock
from retrieval.store.manifest import read_manifest
from retrieval.store.records import ImageRecord


@dataclass(frozen=True)
class OpenChange:
    """The index to change, and the records of its images as they are."""

    index: PatchIndex
    records: list[ImageRecord]


@contextmanager
def changing(path: str | Path, *, wait: float = WAIT) -> Iterator[OpenChange]:
    """The newest state of an index, for this process alone to change and flush.

    A second change waits for the first, up to ``wait`` seconds, and then sees what that one did.
    Raises IndexBusyError after that, and what opening does.
    """
    folder = local_folder(path)
    read_manifest(folder)  # where there is no index there is nothing to lock
    lock = Lock(folder / CHANGE_LOCK)
    lock.acquire(f"change {path}", wait=wait)
    try:
        IndexFolder.open(folder).spec.refresh(folder)
        opened = IndexFolder.open(folder)
        with opened.index(lock=lock) as index:
            yield OpenChange(index, opened.records)
    finally:
        lock.release()
