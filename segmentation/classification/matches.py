"""Who the rows of an index of images are: their records, classes and small pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.recipe import describes_images
from retrieval.classes import ClassMap
from retrieval.errors import ConfigError, IndexDamagedError
from retrieval.folder import IndexFolder
from retrieval.index import PatchIndex
from retrieval.neighbors import NO_NEIGHBOR, Neighbors
from retrieval.store.records import ImageRecord
from segmentation.bound import BoundToIndex


@dataclass(frozen=True)
class Match:
    """One memory image, and how similar it is to what was asked about."""

    image_id: str
    image_path: str
    number: int
    """Image number in the index."""
    classes: tuple[str, ...]
    """Its class names, the largest share first."""
    similarity: float
    thumbnail: str | None
    """A small picture of it, which the index keeps; None where it has none."""
    excerpt: str | None = None
    """The beginning of a text."""


class MatchBook(BoundToIndex):
    """Looks up the memory images behind the rows that a search found."""

    def __init__(
        self,
        index: PatchIndex,
        images: Iterable[ImageRecord],
        *,
        thumbnail: Callable[[int], Path | None] = lambda number: None,
    ) -> None:
        """``images`` are the index's records; ``thumbnail`` finds the small picture of an image number."""
        self._index = index
        self._records = {record.number: record for record in images}
        self._firsts = {
            (record.id, record.sha256): record.number
            for record in self._records.values()
            if record.epoch == 0
        }
        self._thumbnail = thumbnail
        #: Rows that one image may have, one for each augmentation epoch.
        self.epochs = 1 + max((record.epoch for record in self._records.values()), default=0)

    def record(self, number: int) -> ImageRecord:
        """The record of an image number; raises IndexDamagedError where the index does not list it."""
        record = self._records.get(number)
        if record is None:
            raise IndexDamagedError(
                f"the index has a row of image number {number}, but images.jsonl does not list it; "
                "restore the index from a copy or build it again"
            )
        return record

    def numbers(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Image numbers of rows, in the shape of ``ids``; -1 for no row."""
        flat = self._index.patches(ids.reshape(-1))[:, 0]
        return flat.reshape(ids.shape)

    def matches(self, found: Neighbors, query: int = 0, *, count: int | None = None) -> list[Match]:
        """The memory images of one query's neighbours, nearest first, each once; ``count`` at most."""
        ids = found.ids[query]
        numbers = self.numbers(ids).tolist()
        given: dict[tuple[str, str], Match] = {}
        for place in np.flatnonzero(ids != NO_NEIGHBOR):
            number = numbers[place]
            match = self.match(
                number, found.labels[query, place], similarity=float(found.similarities[query, place])
            )
            record = self.record(number)
            given.setdefault((record.id, record.sha256), match)
            if count is not None and len(given) == count:
                break
        return list(given.values())

    def match(self, number: int, label: npt.NDArray[np.uint8], *, similarity: float) -> Match:
        """An image number and its label (C,) as a :class:`Match`."""
        record = self.record(number)
        # thumbnails are made of the first epoch alone
        thumbnail = self._thumbnail(self._firsts.get((record.id, record.sha256), number))
        return Match(
            image_id=record.id,
            image_path=record.path,
            number=number,
            classes=class_names(label, self._index.classes),
            similarity=similarity,
            thumbnail=None if thumbnail is None else str(thumbnail),
            excerpt=record.excerpt,
        )


def class_names(label: npt.NDArray[np.uint8], classes: ClassMap) -> tuple[str, ...]:
    """The names of the classes that a label (C,) has a share of, the largest first."""
    columns = np.argsort(-label.astype(np.int64), kind="stable")
    return tuple(classes.names[column] for column in columns if label[column])


def check_level(folder: IndexFolder) -> None:
    """Raise ConfigError for an index whose rows are patches and not images."""
    if not describes_images(folder.recipe):
        raise ConfigError(
            f"{folder.path} is an index of patches, where one of whole images is needed; use "
            "`mycelia segment` with it, or build an index with features.level=image"
        )
