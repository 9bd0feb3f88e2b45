"""From a photo (a text, a recording) to its classes: one vector, its neighbours in memory, and their vote."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any, Generic, Protocol

import numpy as np
import numpy.typing as npt
import torch

from indexer.features.backbone import choose_device
from indexer.features.extractors import open_whole
from indexer.recipe import Recipe, RuntimeSettings
from retrieval.classes import ClassMap
from retrieval.errors import ConfigError
from retrieval.folder import IndexFolder
from retrieval.index import PatchIndex
from retrieval.neighbors import Filter, Neighbors
from retrieval.store.records import ImageRecord
from segmentation.classification.matches import Match, MatchBook, check_level
from segmentation.description import Key, OnError, Source, readable
from segmentation.pipeline import ahead
from segmentation.transfer import blend_labels, vote_shares
from segmentation.voter import Voter

Vector = npt.NDArray[np.float32]


class DescribesInputs(Protocol):
    """What a classifier needs of :class:`indexer.features.whole.base.WholeExtractor`."""

    @property
    def recipe(self) -> Recipe:
        """The recipe in force."""

    def read(self, source: Any) -> Any:
        """One input; raises DataError."""

    def picture(self, content: Any) -> npt.NDArray[np.uint8] | None:
        """An input as people would look at it, (H, W, 3); None where there is nothing to see."""

    def prepare_one(self, content: Any) -> Any:
        """An input, prepared by itself."""

    def collate(self, prepared: Sequence[Any]) -> Any:
        """A batch of prepared inputs."""

    def extract(self, contents: Any) -> torch.Tensor:
        """Vectors (B, D) float32 on the CPU of a batch of :meth:`collate`."""


@dataclass(frozen=True)
class ClassShare:
    """A class and its share of the vote, 0..1."""

    name: str
    share: float


@dataclass(frozen=True, eq=False)
class Classification:
    """The classes of one photo, how sure they are, and why. Made by :class:`Classifier`."""

    shares: npt.NDArray[np.float32]
    """(C,) share of each class in the vote; sums to 1, all 0 where no memory image was allowed to vote."""
    neighbors: Neighbors
    """The memory images found, of one query."""
    votes: npt.NDArray[np.float32]
    """(K,) share of each neighbour in the vote."""
    classes: ClassMap
    seconds: float
    """Time it took: its share of its batch where there are many."""
    book: MatchBook = field(repr=False)

    @property
    def best(self) -> ClassShare:
        """The class with the largest share, the first of equals."""
        column = int(self.shares.argmax())
        return ClassShare(self.classes.names[column], float(self.shares[column]))

    def top(self, count: int) -> list[ClassShare]:
        """The ``count`` classes with the largest shares, largest first; those without a vote are left out."""
        columns = np.argsort(-self.shares, kind="stable")[:count]
        names = self.classes.names
        return [ClassShare(names[c], float(self.shares[c])) for c in columns if self.shares[c] > 0]

    def matches(self, count: int | None = None) -> list[Match]:
        """The memory images that voted, nearest first. Needs the classifier's index open."""
        return self.book.matches(self.neighbors, count=count)


@dataclass(frozen=True)
class _Batch(Generic[Key]):
    """Photos on their way: prepared ones or vectors (B, D), and the seconds spent so far."""

    keys: list[Key]
    items: Any
    seconds: float

    @property
    def each(self) -> float:
        return self.seconds / len(self.keys)


class Classifier(Voter):
    """Names the classes of photos with the labelled images of an index; nothing is trained.

    Usually made by :meth:`open`. Use it as a context manager, or :meth:`close` it.
    """

    noun, row = "classifier", "image"

    def __init__(
        self,
        index: PatchIndex,
        extractor: DescribesInputs,
        images: Iterable[ImageRecord],
        *,
        k: int | None = None,
        temperature: float | None = None,
        thumbnail: Callable[[int], Path | None] = lambda number: None,
    ) -> None:
        """``images`` are the index's records, ``thumbnail`` finds the small picture of an image number.

        ``k`` and ``temperature`` default to the recipe's. Raises ConfigError for a ``k`` below 1, a
        temperature that is not positive, or an empty index.
        """
        super().__init__(index, extractor, k=k, temperature=temperature)
        self.extractor = extractor
        self._thumbnail = thumbnail
        self._take_images(images)

    @classmethod
    def open(
        cls,
        path: str | Path | IndexFolder,
        *,
        runtime: RuntimeSettings | None = None,
        k: int | None = None,
        temperature: float | None = None,
    ) -> Classifier:
        """A classifier on an index of images, with the backbone that made its vectors.

        ``path``, ``runtime``, ``k`` and ``temperature`` are as in :meth:`segmentation.Segmenter.open`.
        Raises IndexFileError and its kinds where the index is missing, damaged or made by other weights,
        WeightsError where the weights cannot be had, and ConfigError as the constructor, and for an
        index of patches.
        """
        folder = IndexFolder.open(path)
        check_level(folder)
        runtime = runtime or RuntimeSettings()
        index = folder.index(device=str(choose_device(runtime.device)))
        try:
            extractor: DescribesInputs = open_whole(folder.path, index.manifest, runtime=runtime)
            opened = cls(
                index, extractor, folder.records, k=k, temperature=temperature, thumbnail=folder.thumbnail
            )
            opened._folder = folder
            return opened
        except BaseException:
            index.close()
            raise

    def _take_images(self, images: Iterable[ImageRecord]) -> None:
        """What is made of the index's records."""
        self.images = tuple(images)
        self.book = MatchBook(self.index, self.images, thumbnail=self._thumbnail)

    def describe(self, source: Source) -> Vector:
        """The vector (D,) of one photo: a path, a PIL image, or an array (H, W, 3) uint8 RGB.

        With an index of texts, of a text or the ``Path`` of its file; with one of recordings, of a file.
        Raises DataError for one that cannot be read, ConfigError where this classifier is closed.
        """
        self._check_open()
        (batch,) = self._extracted(self._prepared([(None, source)], 1, None))
        vector: Vector = batch.items[0]
        return vector

    def label(self, vectors: Vector, *, filter: Filter | None = None) -> list[Classification]:
        """The classes of photos that :meth:`describe` described: (Q, D) -> Q results.

        ``filter`` says which memory images may vote; all without one.
        """
        self._check_open()
        start = time.perf_counter()
        found = self.index.search(vectors, min(self.k, len(self.index)), filter=filter)
        votes = vote_shares(found, temperature=self.temperature)
        shares = blend_labels(found.labels, votes)
        seconds = (time.perf_counter() - start) / max(len(vectors), 1)
        return [
            Classification(
                shares=shares[query],
                neighbors=_one(found, query),
                votes=votes[query],
                classes=self.classes,
                seconds=seconds,
                book=self.book,
            )
            for query in range(len(vectors))
        ]

    def classify(self, source: Source, *, filter: Filter | None = None) -> Classification:
        """The classes of one photo: :meth:`describe`, then :meth:`label`."""
        return self.label(self.describe(source)[None], filter=filter)[0]

    def describe_many(
        self,
        photos: Iterable[tuple[Key, Source]],
        *,
        batch: int | None = None,
        on_error: OnError[Key] | None = None,
    ) -> Generator[tuple[Key, Vector], None, None]:
        """Each (key, photo) of many with its vector (D,), in their order; ``batch`` at a time.

        ``batch`` defaults to ``runtime.batch_size``. The next photos are read, and the model works, in
        threads of their own: ``photos``, and functions among them, are called up to two batches early. A
        photo that cannot be read raises its DataError, or goes to ``on_error``. Close the generator to
        stop early.
        """
        batches = self._batches(photos, batch, on_error)
        return _flat(batches)

    def classify_many(
        self,
        photos: Iterable[tuple[Key, Source]],
        *,
        batch: int | None = None,
        on_error: OnError[Key] | None = None,
    ) -> Generator[tuple[Key, Classification], None, None]:
        """Each (key, photo) of many with its classes, in their order; as :meth:`describe_many`."""
        return self._labelled(self._batches(photos, batch, on_error))

    def similar(self, source: Source | Vector, count: int = 12) -> list[Match]:
        """The ``count`` memory images most like a photo, nearest first; fewer where there are fewer.

        ``source`` is a photo, or the vector (D,) that :meth:`describe` gave. Raises ConfigError for a
        count below 1.
        """
        given: object = count
        if not isinstance(given, Integral) or given < 1:
            raise ConfigError(
                f"give a count of similar images, a whole number of at least 1, not {given!r:.40}"
            )
        count = min(int(count), len(self.index))
        if isinstance(source, np.ndarray) and source.ndim == 1:
            self._check_open()
            vector = source
        else:
            vector = self.describe(source)
        rows = min(count * self.book.epochs, len(self.index))
        return self.book.matches(self.index.search(vector[None], rows), count=count)

    def _batches(
        self, photos: Iterable[tuple[Key, Source]], batch: int | None, on_error: OnError[Key] | None
    ) -> Generator[_Batch[Key], None, None]:
        self._check_open()
        size = self.extractor.recipe.runtime.batch_size if batch is None else batch
        if size < 1:
            raise ConfigError(f"a batch has at least 1 image, not {size}")
        return ahead(self._extracted(ahead(self._prepared(photos, size, on_error))))

    def _prepared(
        self, photos: Iterable[tuple[Key, Source]], size: int, on_error: OnError[Key] | None
    ) -> Generator[_Batch[Key], None, None]:
        """Inputs read and fitted to the model, a batch at a time."""
        pending = readable(photos, on_error, read=self.extractor.read)
        start = time.perf_counter()
        while taken := [(key, self.extractor.prepare_one(item)) for key, item in islice(pending, size)]:
            items = self.extractor.collate([item for _, item in taken])
            yield _Batch([key for key, _ in taken], items, time.perf_counter() - start)
            start = time.perf_counter()

    def _extracted(self, batches: Generator[_Batch[Key], None, None]) -> Generator[_Batch[Key], None, None]:
        """Batches with their vectors (B, D) in the place of images."""
        try:
            for batch in batches:
                start = time.perf_counter()
                vectors = self.extractor.extract(batch.items).numpy()
                yield _Batch(batch.keys, vectors, batch.seconds + time.perf_counter() - start)
        finally:
            batches.close()

    def _labelled(
        self, batches: Generator[_Batch[Key], None, None]
    ) -> Generator[tuple[Key, Classification], None, None]:
        try:
            for batch in batches:
                for key, result in zip(batch.keys, self.label(batch.items), strict=True):
                    yield key, replace(result, seconds=result.seconds + batch.each)
        finally:
            batches.close()


def _flat(batches: Generator[_Batch[Key], None, None]) -> Generator[tuple[Key, Vector], None, None]:
    try:
        for batch in batches:
            yield from zip(batch.keys, batch.items, strict=True)
    finally:
        batches.close()


def _one(found: Neighbors, query: int) -> Neighbors:
    """The neighbours of one query alone."""
    rows = slice(query, query + 1)
    multiplicity = None if found.multiplicity is None else found.multiplicity[rows]
    return Neighbors(found.ids[rows], found.similarities[rows], found.labels[rows], multiplicity)
