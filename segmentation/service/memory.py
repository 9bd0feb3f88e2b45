"""The index that a service holds open: what it is asked, and how it changes. Called in threads of its own.

Everything that reads the open index runs in the one thread that the scheduler has for it, and begins with
:meth:`Memory.now`, which takes over what was committed: an answer is of one state. Changes run in another
thread, one at a time, and are commits of the index on disk; the open one sees them with the next question.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.bank.add import describe_new
from indexer.datasets import Dataset, Sample
from indexer.datasets.keys import SourceKey
from indexer.datasets.labels import LabelSource
from indexer.features.fungi import FungiExtractor
from retrieval.classes import ClassMap
from retrieval.edit.add import NewImage, add_images
from retrieval.edit.classes import join_classes
from retrieval.edit.remove import remove_images
from retrieval.errors import ConfigError, IndexBusyError
from retrieval.folder import IndexFolder
from retrieval.store.manifest import Manifest
from retrieval.store.records import ImageRecord, built_records
from segmentation.description import Description, describe_batch
from segmentation.explain import Vote
from segmentation.segmenter import Segmentation, Segmenter
from segmentation.service.cache import Seen
from segmentation.service.errors import ServiceError, not_found
from segmentation.service.painted import rows_of_description, thumbnail_of, with_classes

#: What the ids of painted photos begin with.
TAUGHT = "taught-"

_ATTEMPTS = 5


@dataclass(frozen=True)
class State:
    """What one state of the index says of itself."""

    version: str
    manifest: Manifest
    rows: int
    images: tuple[ImageRecord, ...]
    """One record for each image that is there, that of its first epoch, by number."""
    patches: dict[int, int]
    """Rows of each of them, of all epochs."""
    added: frozenset[int]
    """Numbers of those that came after the build."""
    owners: dict[int, int]
    """The number of any epoch's record -> that of the image's first epoch."""

    @property
    def classes(self) -> ClassMap:
        """The classes."""
        return self.manifest.classes

    def image(self, number: int) -> ImageRecord:
        """The record of an image number; raises ServiceError 404."""
        first = self.owners.get(number)
        for record in self.images:
            if record.number == first:
                return record
        raise not_found(f"the memory has no image number {number}")


@dataclass(frozen=True)
class Learnt:
    """What a change did."""

    version: str
    number: int
    patches: int
    classes: tuple[str, ...]


class Memory:
    """A segmenter on an index, and the changes of that index."""

    def __init__(self, segmenter: Segmenter, path: str | Path) -> None:
        """``path`` is the folder or address that the segmenter was opened from."""
        self.segmenter = segmenter
        self.path = path
        self._changing = threading.Lock()
        self._folder = IndexFolder.open(path)
        self._state = self._read_state()

    @property
    def name(self) -> str:
        """What the index is called: the last part of its path."""
        return Path(str(self.path)).name or "index"

    @property
    def last(self) -> State:
        """The state that was seen last, which may be read from any thread."""
        return self._state

    def now(self) -> State:
        """Take over what was committed since, in the thread that searches."""
        if self.segmenter.refresh():
            self._state = self._read_state()
        return self._state

    def close(self) -> None:
        """Close the index."""
        self.segmenter.close()

    def describe(self, photos: Sequence[npt.NDArray[np.uint8]]) -> list[Description]:
        """Photos (H, W, 3) as the model sees them."""
        return describe_batch(self.segmenter.extractor, photos)

    def label(self, description: Description, *, k: int | None = None) -> tuple[State, Segmentation]:
        """The mask of a described photo, and the state of the index that it is of."""
        state = self.now()
        return state, self.segmenter.label(description, k=k)

    def explain(
        self, description: Description, row: int, col: int, *, k: int | None = None
    ) -> tuple[State, Segmentation, list[Vote]]:
        """The votes at a pixel, heaviest first; raises ConfigError for one outside the photo."""
        state, result = self.label(description, k=k)
        return state, result, result.explain(row, col)

    def thumbnail(self, number: int) -> bytes:
        """The small JPEG of an image; raises ServiceError 404."""
        self._folder.refresh()
        path = self._folder.thumbnail(self.last.image(number).number)
        try:
            if path is not None:
                return path.read_bytes()
        except FileNotFoundError:
            pass  # swept by a later commit
        raise not_found(f"the memory keeps no picture of image number {number}")

    def learn(
        self,
        image: Path,
        labels: LabelSource,
        id: str,
        *,
        replace_known: bool,
        classes: ClassMap | None = None,
    ) -> Learnt:
        """Describe a photo as the index's own were, with labels, and commit it; as `mycelia index add`.

        ``classes`` are those of the labels, else the index's. Raises DataError for bad files, ConfigError
        for an id that is there already, unless it is to be replaced.
        """
        with self._changing:
            manifest = IndexFolder.open(self.path).manifest
            own = classes or manifest.classes
            sample = Sample(id, image, labels)
            dataset = Dataset("uploads", "service", image.parent, None, (sample,), own)
            described = describe_new(self._extractor, dataset, manifest)
            named = [replace(each, record=replace(each.record, path=id)) for each in described]
            return self._commit(named, own, replace_known=replace_known)

    def teach(
        self, seen: Seen, photo: npt.NDArray[np.uint8], names: list[str], mask: npt.NDArray[np.int32], id: str
    ) -> Learnt | None:
        """Commit what is painted on a described photo; ``mask`` (H, W) holds places in ``names``, -1 none.

        New names become classes, after those that are there. None where the memory's patches lie otherwise
        than the photo's, so that it has to be described again.
        """
        with self._changing:
            manifest = IndexFolder.open(self.path).manifest
            classes = with_classes(manifest.classes, names)
            recipe = self.segmenter.extractor.recipe
            rows = rows_of_description(
                seen.description,
                columns_of(mask, names, classes),
                self._record(seen, id),
                recipe=recipe,
                classes=len(classes),
                images=manifest.counts.get("images") or 1,
            )
            if rows is None:
                return None
            return self._commit([replace(rows, thumbnail=thumbnail_of(photo))], classes, replace_known=False)

    def newest_images(self) -> list[ImageRecord]:
        """The records on disk now of images that are there; for changes, which have their own thread."""
        return [record for record in IndexFolder.open(self.path).records if not record.removed]

    def remove(self, number: int) -> tuple[str, int]:
        """Take an image out; the version then, and how many rows went. Raises ServiceError 404 and 409."""
        with self._changing:
            folder = IndexFolder.open(self.path)
            record = next((r for r in folder.records if r.number == number and not r.removed), None)
            if record is None:
                raise not_found(f"the memory has no image number {number}")
            rows = sum(r.patches for r in folder.records if r.id == record.id and not r.removed)
            if rows >= folder.live_rows:
                raise ServiceError(
                    409, "last_image", "this is the memory's last image, and without one nothing can be found"
                )
            report = remove_images(self.path, [record.id])
            return _version(IndexFolder.open(self.path).manifest), report.rows

    def _commit(self, images: Sequence[NewImage], own: ClassMap, *, replace_known: bool) -> Learnt:
        """Add the rows in one commit, in the columns of the classes that the index has by now."""
        if not sum(len(image.vectors) for image in images):
            raise ServiceError(422, "nothing_labelled", "no patch of the photo is labelled; paint some of it")
        for attempt in range(_ATTEMPTS):
            known = IndexFolder.open(self.path).manifest.classes
            joined = join_classes(known, own, where="the request", new_ids=True)
            moved = [_moved(image, joined.columns, len(joined.classes)) for image in images]
            try:
                report = add_images(self.path, moved, classes=joined.classes, replace_known=replace_known)
                break
            except IndexBusyError:  # another process has changed the classes
                if attempt == _ATTEMPTS - 1:
                    raise
        manifest = IndexFolder.open(self.path).manifest
        return Learnt(_version(manifest), report.numbers[0], report.rows, joined.classes.names)

    @property
    def _extractor(self) -> FungiExtractor:
        extractor = self.segmenter.extractor
        if not isinstance(extractor, FungiExtractor):
            raise ConfigError("this service's extractor describes no images of a memory")
        return extractor

    def _record(self, seen: Seen, id: str) -> ImageRecord:
        height, width = seen.description.size
        sha256 = SourceKey.of_bytes(id, seen.content).sha256
        return ImageRecord(0, id, id, sha256, height, width, patches=0)

    def _read_state(self) -> State:
        self._folder.refresh()
        manifest, records = self.segmenter.index.manifest, self.segmenter.images
        _, later = built_records(records, manifest)
        live = [record for record in records if not record.removed]
        first: dict[tuple[str, str], ImageRecord] = {}
        patches: dict[int, int] = {}
        owners: dict[int, int] = {}
        for record in sorted(live, key=lambda record: record.number):
            kept = first.setdefault((record.id, record.sha256), record)
            owners[record.number] = kept.number
            patches[kept.number] = patches.get(kept.number, 0) + record.patches
        return State(
            _version(manifest),
            manifest,
            len(self.segmenter.index),
            tuple(first.values()),
            patches,
            frozenset(record.number for record in later),
            owners,
        )


def columns_of(mask: npt.NDArray[np.int32], names: list[str], classes: ClassMap) -> npt.NDArray[np.int32]:
    """A mask (H, W) of places in ``names``, -1 unpainted, as class columns."""
    table = np.array([*(classes.names.index(name) for name in names), -1], dtype=np.int32)
    columns: npt.NDArray[np.int32] = table[mask]
    return columns


def _version(manifest: Manifest) -> str:
    """What changes with every commit."""
    return str(manifest.generation)


def _moved(image: NewImage, columns: npt.NDArray[np.int64], classes: int) -> NewImage:
    labels = np.zeros((len(image.labels), classes), dtype=np.uint8)
    labels[:, columns] = image.labels
    return replace(image, labels=labels)
