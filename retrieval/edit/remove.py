"""Take memory images out of an index."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.edit.change import changing
from retrieval.progress import Progress, track
from retrieval.store.lock import WAIT
from retrieval.store.records import image_numbers


@dataclass(frozen=True)
class RemoveReport:
    """What a removal did."""

    images: int
    rows: int
    left: int
    """Rows that are still there."""


def remove_images(
    path: str | Path, ids: Collection[str], *, wait: float = WAIT, progress: Progress | None = None
) -> RemoveReport:
    """Remove the rows of memory images (all augmentation epochs), named by their ids in the data set.

    All of them go in one commit. Raises ConfigError for an id that the index does not have, removing
    nothing, and what :func:`retrieval.edit.change.changing` does.
    """
    with changing(path, wait=wait) as change:
        numbers = image_numbers(change.records, ids, where=path)
        rows = 0
        with track(progress, "removing", len(numbers)) as task:
            for number in sorted(numbers):
                rows += change.index.remove(number)
                task.advance()
        gone = set(numbers)
        records = [
            replace(record, removed=record.removed or record.number in gone) for record in change.records
        ]
        change.index.flush(images=records, progress=progress)
        return RemoveReport(len(set(ids)), rows, len(change.index))
