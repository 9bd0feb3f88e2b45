"""From a photo to its mask: patch features, neighbours, their labels, and the way back to pixels."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from indexer.features.backbone import choose_device
from indexer.features.fungi import open_extractor
from indexer.images import Geometry, ImageSource, read_image
from indexer.recipe import Recipe, RuntimeSettings, recipe_from_dict
from retrieval.classes import ClassMap
from retrieval.engines.qdrant.locate import local_folder
from retrieval.errors import ConfigError
from retrieval.index import PatchIndex, open_index
from retrieval.neighbors import Filter, Neighbors
from retrieval.store.manifest import Manifest, finish_commit, read_manifest
from retrieval.store.records import ImageRecord, read_images
from segmentation.explain import Vote, VoteBook
from segmentation.pipeline import ahead
from segmentation.transfer import blend_labels, transfer_weights
from segmentation.upsample import classes_at

#: Class ids of pixels, (H, W).
Mask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class Extractor(Protocol):
    """What a segmenter needs of :class:`indexer.features.fungi.FungiExtractor`."""

    @property
    def recipe(self) -> Recipe:
        """The recipe in force."""

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) of a patch in input pixels."""

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches of an image."""

    def prepare(self, image: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, Geometry]:
        """An image (H0, W0, 3) uint8 as the model sees it, and the way back."""

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors (B, T, D) float32 on the CPU of images (B, 3, H, W)."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of one photo, how sure it is, and why. Made by :class:`Segmenter`."""

    mask: Mask
    """(H, W) class ids at the photo's own size; uint8, or uint16 where an id exceeds 255."""
    confidence: npt.NDArray[np.float32]
    """(H, W) in 0..1: the winning class's share of the interpolated label distribution."""
    columns: npt.NDArray[np.int32]
    """(H, W) class columns: the mask before ids."""
    shares: npt.NDArray[np.float32]
    """(h, w, C) label distribution of each patch."""
    neighbors: Neighbors
    """The memory patches found for each patch, row-major in the grid."""
    weights: npt.NDArray[np.float32]
    """(h * w, K) weight of each neighbour's label."""
    geometry: Geometry
    """How the photo's pixels map to the model's input."""
    seconds: float
    """Time it took, side by side with other images' where there are many: its share of its batch."""
    patch_size: tuple[int, int] = field(repr=False)
    book: VoteBook = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo, in pixels."""
        return self.geometry.source

    def patch_at(self, row: int, col: int) -> tuple[int, int]:
        """Grid (row, col) of the patch that covers the photo's pixel (row, col).

        Raises ConfigError for a pixel outside the photo.
        """
        height, width = self.size
        if not (0 <= row < height and 0 <= col < width):
            raise ConfigError(
                f"pixel (row {row}, col {col}) lies outside the photo of {height} rows and {width} columns; "
                f"give a row in 0..{height - 1} and a column in 0..{width - 1}"
            )
        rows, cols = self.geometry.patch_of_pixels(self.patch_size)
        return int(rows[row]), int(cols[col])

    def explain(self, row: int, col: int) -> list[Vote]:
        """The memory patches that voted at the photo's pixel (row, col), heaviest first.

        They are the neighbours of the patch that covers the pixel; the mask itself is interpolated
        between this patch and those beside it. The weights sum to 1. Needs the segmenter's index
        open. Raises ConfigError for a pixel outside the photo.
        """
        patch_row, patch_col = self.patch_at(row, col)
        query = patch_row * self.shares.shape[1] + patch_col
        found = self.neighbors
        return self.book.votes(
            found.ids[query], found.similarities[query], self.weights[query], found.labels[query]
        )

    def columns_at_input(self) -> npt.NDArray[np.int32]:
        """The class columns at the size of the model's input, padding included: (H, W) int32."""
        rows, cols = (
            (np.arange(size) + 0.5) / patch - 0.5
            for size, patch in zip(self.geometry.size, self.patch_size, strict=True)
        )
        return classes_at(without_padding(self.shares, self.geometry, self.patch_size), rows, cols)[0]


class Segmenter:
    """Segments photos with the labelled patches of an index; nothing is trained.

    Usually made by :meth:`open`. Use it as a context manager, or :meth:`close` it.
    """

    def __init__(
        self,
        index: PatchIndex,
        extractor: Extractor,
        images: Iterable[ImageRecord],
        *,
        k: int | None = None,
        temperature: float | None = None,
        filter: Filter | None = None,
    ) -> None:
        """``images`` are the index's records; ``k`` and ``temperature`` default to the recipe's.

        ``filter`` says which memory patches may vote; a patch for which it leaves none gets the
        first class with confidence 0.

        Raises ConfigError for a ``k`` below 1, a temperature that is not positive, or an empty index.
        """
        self.index = index
        self.extractor = extractor
        transfer = extractor.recipe.transfer
        self.k = transfer.k if k is None else k
        self.temperature = transfer.temperature if temperature is None else temperature
        if self.k < 1 or not self.temperature > 0:
            raise ConfigError(
                f"label transfer needs k of at least 1 and a temperature above 0, not k = {self.k} "
                f"and temperature = {self.temperature}"
            )
        if len(index) == 0:
            raise ConfigError("the index holds no patch to compare with; add labelled images to it")
        self.filter = filter
        self._book = VoteBook(index, images, recipe=extractor.recipe, patch_size=extractor.patch_size)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        runtime: RuntimeSettings | None = None,
        k: int | None = None,
        temperature: float | None = None,
        candidates: int | None = None,
        filter: Filter | None = None,
    ) -> Segmenter:
        """A segmenter on an index, with the backbone that made its vectors.

        ``path`` is a folder, or ``qdrant://HOST:PORT/COLLECTION``. ``runtime`` (device, precision,
        batch size), ``k``, ``temperature`` and ``candidates`` (rows to re-rank) replace the recipe's;
        ``filter`` as the constructor. Raises IndexFileError and its kinds where the index is missing,
        damaged or made by other weights, WeightsError where the weights cannot be had, and ConfigError
        as the constructor, and for ``candidates`` of an index that is not re-ranked.
        """
        folder = local_folder(path)
        finish_commit(folder)
        device = _device(read_manifest(folder), folder, runtime)
        index = open_index(folder, device=str(device), candidates=candidates)
        try:
            manifest = index.manifest
            if candidates is not None:
                manifest = replace(manifest, recipe={**manifest.recipe, "rerank": {"candidates": candidates}})
            extractor = open_extractor(folder, manifest, runtime=runtime)
            records = read_images(folder)
            return cls(index, extractor, records, k=k, temperature=temperature, filter=filter)
        except BaseException:
            index.close()
            raise

    @property
    def classes(self) -> ClassMap:
        """The classes of the index."""
        return self.index.classes

    @property
    def recipe(self) -> Recipe:
        """The recipe in force, with this segmenter's k and temperature."""
        recipe = self.extractor.recipe
        transfer = recipe.transfer.model_copy(update={"k": self.k, "temperature": self.temperature})
        return recipe.model_copy(update={"transfer": transfer})

    def segment(self, source: ImageSource) -> Segmentation:
        """The mask of one photo: a path, a PIL image, or an array (H, W, 3) uint8 RGB.

        Raises ImageError for a photo that cannot be read.
        """
        (batch,) = self._described(self._prepared([source]))
        return next(self._finished(batch))

    def segment_many(self, sources: Iterable[ImageSource]) -> Generator[Segmentation, None, None]:
        """The masks of many photos, in their order, computed ``runtime.batch_size`` at a time.

        While the patches of one batch are looked up, in the caller's thread, the model describes the
        next and the one after it is read, in threads of their own: ``sources`` is asked from another
        thread, up to two batches early. Raises ImageError for a photo that cannot be read, before
        any mask of its batch is given. Close the generator to stop early.
        """
        described = ahead(self._described(ahead(self._prepared(sources))))
        try:
            for batch in described:
                yield from self._finished(batch)
        finally:
            described.close()

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepared(self, sources: Iterable[ImageSource]) -> Generator[_Batch, None, None]:
        """Photos read and fitted to the model, a batch at a time."""
        pending = iter(sources)
        size = self.extractor.recipe.runtime.batch_size
        start = time.perf_counter()
        while prepared := [self.extractor.prepare(read_image(source)) for source in islice(pending, size)]:
            tensors = torch.stack([tensor for tensor, _ in prepared])  # (B, 3, H, W)
            yield _Batch(tensors, [geometry for _, geometry in prepared], time.perf_counter() - start)
            start = time.perf_counter()

    def _described(self, batches: Generator[_Batch, None, None]) -> Generator[_Batch, None, None]:
        """Batches with their patches' vectors (B, T, D) in the place of pixels."""
        try:
            for batch in batches:
                start = time.perf_counter()
                vectors = self.extractor.extract(batch.tensor)
                yield _Batch(vectors, batch.geometries, batch.seconds + time.perf_counter() - start)
        finally:
            batches.close()

    def _finished(self, batch: _Batch) -> Iterator[Segmentation]:
        shared = batch.seconds / len(batch.geometries)
        for vectors, geometry in zip(batch.tensor, batch.geometries, strict=True):
            yield self._finish(vectors.numpy(), geometry, shared)

    def _finish(self, vectors: npt.NDArray[np.float32], geometry: Geometry, spent: float) -> Segmentation:
        """Neighbours, labels and pixels of one image's patches (T, D); ``spent`` seconds went before."""
        start = time.perf_counter()
        neighbors = self.index.search(vectors, min(self.k, len(self.index)), filter=self.filter)
        weights = transfer_weights(neighbors, temperature=self.temperature)
        shares = blend_labels(neighbors.labels, weights).reshape(*self.extractor.grid, -1)  # (h, w, C)
        patch_size = self.extractor.patch_size
        rows, cols = geometry.grid_coordinates(patch_size)
        columns, confidence = classes_at(without_padding(shares, geometry, patch_size), rows, cols)
        return Segmentation(
            mask=mask_of_columns(columns, self.classes),
            confidence=confidence,
            columns=columns,
            shares=shares,
            neighbors=neighbors,
            weights=weights,
            geometry=geometry,
            seconds=spent + time.perf_counter() - start,
            patch_size=patch_size,
            book=self._book,
        )


@dataclass(frozen=True)
class _Batch:
    """Photos on their way: pixels (B, 3, H, W) or vectors (B, T, D), and the seconds spent so far."""

    tensor: torch.Tensor
    geometries: list[Geometry]
    seconds: float


def without_padding(
    shares: npt.NDArray[np.float32], geometry: Geometry, patch_size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """The patches (h, w, C) that see some of the photo; interpolation must not mix in the others."""
    rows, cols = geometry.content_grid(patch_size)
    return shares[:rows, :cols]


def mask_of_columns(columns: npt.NDArray[np.int32], classes: ClassMap) -> Mask:
    """Class ids of class columns (0 and up), in the smallest dtype that holds every id."""
    ids: Mask = classes.ids if classes.mask_dtype is np.uint16 else classes.ids.astype(np.uint8)
    return ids[columns]


def _device(manifest: Manifest, folder: Path, runtime: RuntimeSettings | None) -> torch.device:
    """Where the exact engine computes: where the extractor does."""
    settings = runtime or recipe_from_dict(manifest.recipe, where=str(folder / "manifest.json")).runtime
    return choose_device(settings.device)
