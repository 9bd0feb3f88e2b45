"""Put memory images into an index: new ones, or the same ones with other rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.edit.change import OpenChange, changing
from retrieval.errors import ClassesChangedError, ConfigError
from retrieval.index import PatchIndex
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
    replaced: tuple[str, ...] = ()
    """Ids of the images that were there before, and whose rows of then are gone."""


def add_images(
    path: str | Path,
    images: Sequence[NewImage],
    *,
    classes: ClassMap | None = None,
    replace_known: bool = False,
    wait: float = WAIT,
    progress: Progress | None = None,
) -> AddReport:
    """Add images with their rows, records and thumbnails, all in one commit.

    ``classes`` are those of the labels where they are more than the index has: its own, then new ones. With
    ``replace_known`` the rows of images that are there (same id, all epochs) go in the same commit, so that
    nobody sees an image missing or twice. (A server shows each upload at once: there the new rows come
    first, those at the same places in the stead of the old ones.) Raises ConfigError for an image that is
    there already otherwise, adding nothing; ClassesChangedError where another process has changed the
    classes; and what ``PatchIndex.add`` and :func:`retrieval.edit.change.changing` do.
    """
    with changing(path, wait=wait) as change:
        known: dict[str, list[int]] = {}
        for record in change.records:
            if not record.removed:
                known.setdefault(record.id, []).append(record.number)
        _check_new(images, () if replace_known else known, path)
        if classes is not None:
            _extend_classes(change.index, classes, path)
        first = max((record.number for record in change.records), default=-1) + 1
        records = [
            replace(image.record, number=first + i, patches=len(image.vectors), removed=False)
            for i, image in enumerate(images)
        ]
        _add_rows(change.index, records, images, progress)
        replaced = tuple(dict.fromkeys(record.id for record in records if record.id in known))
        kept = _remove(change, {number for id in replaced for number in known[id]})
        thumbnails = {
            record.number: image.thumbnail
            for record, image in zip(records, images, strict=True)
            if image.thumbnail is not None
        }
        change.index.flush(images=[*kept, *records], thumbnails=thumbnails, progress=progress)
        return AddReport(tuple(r.number for r in records), sum(r.patches for r in records), replaced)


def _check_new(images: Sequence[NewImage], known: Sequence[str] | dict[str, list[int]], path: object) -> None:
    """Raise ConfigError for an image that is known, or given twice."""
    seen: set[tuple[str, int]] = set()
    for image in images:
        key = (image.record.id, image.record.epoch)
        if image.record.id in known:
            raise ConfigError(
                f"{path} has the memory image {image.record.id!r} already; take `mycelia index replace` to "
                "give it other labels, or remove it first"
            )
        if key in seen:
            raise ConfigError(f"the memory image {image.record.id!r} is given twice; give each one once")
        seen.add(key)


def _extend_classes(index: PatchIndex, classes: ClassMap, path: object) -> None:
    """Append the classes that the index lacks."""
    known = index.classes
    if classes == known:
        return
    if classes.classes[: len(known)] != known.classes:
        raise ClassesChangedError(f"the classes of {path} were changed meanwhile; run the command again")
    index.relabel(classes, np.arange(len(known), dtype=np.int64))


def _add_rows(
    index: PatchIndex,
    records: Sequence[ImageRecord],
    images: Sequence[NewImage],
    progress: Progress | None,
) -> None:
    index.announce(records)
    with track(progress, "adding", len(images)) as task:
        for record, image in zip(records, images, strict=True):
            numbers = np.full((len(image.places), 1), record.number, dtype=np.int32)
            index.add(image.vectors, image.labels, np.hstack([numbers, image.places]))
            task.advance()


def _remove(change: OpenChange, numbers: set[int]) -> list[ImageRecord]:
    """Remove the rows of image numbers; the records, which say so."""
    for number in sorted(numbers):
        change.index.remove(number)
    return [replace(r, removed=r.removed or r.number in numbers) for r in change.records]
