"""Put more memory images into an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.edit.change import changing
from retrieval.errors import ConfigError
from retrieval.progress import Progress, track
from retrieval.store.lock import WAIT
from retrieval.store.records import ImageRecord


@dataclass(frozen=True)
class NewImage:
    """One image in one augmentation epoch, and the rows that it gives.

    ``record`` says where it came from; its number and its count of patches are filled in. ``vectors``
    (n, D) float32 and ``labels`` (n, C) uint8 as ``PatchIndex.add`` takes them; ``places`` (n, 2) int32
    are grid row and grid column; ``thumbnail`` is a small JPEG.
    """

    record: ImageRecord
    vectors: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    places: npt.NDArray[np.int32]
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class AddReport:
    """What an addition did."""

    numbers: tuple[int, ...]
    """The image numbers given, in the order of the images."""
    rows: int


def add_images(
    path: str | Path, images: Sequence[NewImage], *, wait: float = WAIT, progress: Progress | None = None
) -> AddReport:
    """Add images with their rows, records and thumbnails, all in one commit.

    Raises ConfigError for an image that is there already (same id and epoch), adding nothing, and what
    ``PatchIndex.add`` and :func:`retrieval.edit.change.changing` do.
    """
    with changing(path, wait=wait) as change:
        there = {(record.id, record.epoch) for record in change.records if not record.removed}
        for image in images:
            if (image.record.id, image.record.epoch) in there:
                raise ConfigError(
                    f"{path} has the memory image {image.record.id!r} already; remove it first to replace it"
                )
            there.add((image.record.id, image.record.epoch))
        first = max((record.number for record in change.records), default=-1) + 1
        records = [
            replace(image.record, number=first + i, patches=len(image.vectors))
            for i, image in enumerate(images)
        ]
        change.index.announce(records)
        with track(progress, "adding", len(images)) as task:
            for record, image in zip(records, images, strict=True):
                numbers = np.full((len(image.places), 1), record.number, dtype=np.int32)
                change.index.add(image.vectors, image.labels, np.hstack([numbers, image.places]))
                task.advance()
        thumbnails = {
            record.number: image.thumbnail
            for record, image in zip(records, images, strict=True)
            if image.thumbnail is not None
        }
        change.index.flush(images=[*change.records, *records], thumbnails=thumbnails, progress=progress)
        return AddReport(tuple(r.number for r in records), sum(r.patches for r in records))
