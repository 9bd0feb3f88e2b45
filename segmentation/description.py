"""What the model sees in photos: the vectors of their patches, which cost far more than labels from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from indexer.features.passes import extract_photos
from indexer.images import Geometry, ImageSource, PatchGrid, read_image
from indexer.images.tiles import TiledGrid, Tiling, lay_grid, lay_tiles
from indexer.images.windows import ArrayReader, see
from indexer.recipe import ImageSettings, Recipe
from retrieval.errors import DataError
from segmentation.pipeline import ahead

Key = TypeVar("Key")
T = TypeVar("T")

#: A photo, or a function that reads it when its turn comes, in the thread that reads.
Source = ImageSource | Callable[[], ImageSource]

#: Hears, in the thread that reads, of a photo that cannot be used; the others go on.
OnError = Callable[[Key, DataError], None]


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

    def prepare(
        self, image: npt.NDArray[np.uint8], geometry: Geometry | None = None
    ) -> tuple[torch.Tensor, Geometry]:
        """An image (H0, W0, 3) uint8 as the model sees it, whole or by a geometry, and the way back."""

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors (B, T, D) float32 on the CPU of images (B, 3, H, W)."""


@dataclass(frozen=True, eq=False)
class View:
    """A photo's patches as the model sees them, or their mirror images."""

    vectors: npt.NDArray[np.float32]
    """(T, D) of the patches, row-major in the grid."""
    grid: PatchGrid | TiledGrid
    """Where they lie in the photo."""

    @property
    def geometry(self) -> Geometry:
        """How the photo's pixels map to the model's input."""
        return self.grid.geometry


@dataclass(frozen=True, eq=False)
class Description:
    """A photo as the model sees it; :meth:`segmentation.Segmenter.label` labels it as often as one likes."""

    views: tuple[View, ...]
    """The photo's patches, and with ``image.flip`` those of its mirror image in the same places."""
    seconds: float
    """Time it took, side by side with other photos' where there are many: its share of its batch."""
    photo: npt.NDArray[np.uint8] | None = None
    """(H, W, 3) RGB, which refined masks follow; None where the recipe refines none."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo, in pixels."""
        return self.views[0].geometry.source


@dataclass(frozen=True)
class _Batch(Generic[Key]):
    """Photos on their way: tiles (n, 3, H, W) or vectors (M, T, D), and the seconds spent so far."""

    keys: list[Key]
    photos: list[npt.NDArray[np.uint8] | None]
    tensors: list[torch.Tensor]
    grids: list[PatchGrid | TiledGrid]
    seconds: float


def describe_one(extractor: Extractor, source: Source) -> Description:
    """One photo, described in the caller's thread; raises ImageError for one that cannot be read."""
    (description,) = describe_batch(extractor, [source])
    return description


def describe_batch(extractor: Extractor, sources: Iterable[Source]) -> list[Description]:
    """Some photos, described in the caller's thread, ``runtime.batch_size`` at a time, in their order.

    Raises ImageError for one that cannot be read.
    """
    photos = ((None, source) for source in sources)
    batches = _extracted(extractor, _prepared(extractor, photos, None))
    return [description for batch in batches for _, description in _descriptions(batch)]


def describe_ahead(
    extractor: Extractor, photos: Iterable[tuple[Key, Source]], *, on_error: OnError[Key] | None = None
) -> Generator[tuple[Key, Description], None, None]:
    """Many (key, photo), each described under its key, in their order; ``runtime.batch_size`` at a time.

    While one batch is in use, the model describes the next and the one after it is read, in threads of
    their own: ``photos`` is asked from another thread, up to two batches early. A photo that cannot be
    read raises its DataError before anything of its batch is given, or goes to ``on_error``.
    """
    batches = ahead(_extracted(extractor, ahead(_prepared(extractor, photos, on_error))))
    try:
        for batch in batches:
            yield from _descriptions(batch)
    finally:
        batches.close()


def _prepared(
    extractor: Extractor, photos: Iterable[tuple[Key, Source]], on_error: OnError[Key] | None
) -> Generator[_Batch[Key], None, None]:
    """Photos read and fitted to the model, so many at a time as have ``runtime.batch_size`` tiles."""
    pending = readable(photos, on_error, read=read_image)
    recipe = extractor.recipe
    kept = recipe.transfer.refine != "none"
    start = time.perf_counter()
    while True:
        batch = _Batch[Key]([], [], [], [], 0.0)
        for key, image in pending:
            pixels, grid = _tiles(extractor, image)  # (n, 3, H, W)
            batch.keys.append(key)
            batch.photos.append(image if kept else None)
            batch.tensors.append(pixels)
            batch.grids.append(grid)
            if sum(map(len, batch.tensors)) >= recipe.runtime.batch_size:
                break
        if not batch.keys:
            return
        yield replace(batch, seconds=time.perf_counter() - start)
        start = time.perf_counter()


def _tiles(extractor: Extractor, image: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, PatchGrid | TiledGrid]:
    """A photo as the model sees it, (n, 3, H, W), and the grid of its patches."""
    settings, patch = extractor.recipe.image, extractor.patch_size
    if settings.scale is None:
        pixels, geometry = extractor.prepare(image)
        return pixels[None], PatchGrid(geometry, patch, settings.shifts)
    reader = ArrayReader(image)
    tiling = tiling_of(reader.shape, settings)
    pixels = torch.stack([extractor.prepare(*see(reader, tile))[0] for tile in tiling.geometries()])
    return pixels, lay_grid(tiling, patch, settings.shifts)


def tiling_of(shape: tuple[int, int], settings: ImageSettings) -> Tiling:
    """The tiles of a photo (H0, W0) to segment, for settings with a scale."""
    assert settings.scale is not None
    return lay_tiles(shape, settings.fixed_size, scale=settings.scale, overlap=settings.overlap)


def readable(
    inputs: Iterable[tuple[Key, Any]], on_error: OnError[Key] | None, *, read: Callable[[Any], T]
) -> Iterator[tuple[Key, T]]:
    """The inputs that ``read`` can read; for others it raises DataError, or that goes to ``on_error``."""
    for key, source in inputs:
        try:
            content = read(source() if callable(source) else source)
        except DataError as error:
            if on_error is None:
                raise
            on_error(key, error)
            continue
        yield key, content


def _extracted(
    extractor: Extractor, batches: Generator[_Batch[Key], None, None]
) -> Generator[_Batch[Key], None, None]:
    """Batches with their patches' vectors (M, T, D) in the place of pixels."""
    try:
        for batch in batches:
            start = time.perf_counter()
            vectors = extract_photos(extractor, batch.tensors, batch.grids)
            spent = batch.seconds + time.perf_counter() - start
            yield replace(batch, tensors=vectors, seconds=spent)
    finally:
        batches.close()


def _descriptions(batch: _Batch[Key]) -> Iterator[tuple[Key, Description]]:
    shared = batch.seconds / len(batch.keys)
    for key, photo, vectors, grid in zip(batch.keys, batch.photos, batch.tensors, batch.grids, strict=True):
        yield key, Description(tuple(View(view.numpy(), grid) for view in vectors), shared, photo)
