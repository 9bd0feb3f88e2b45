"""From a photo to its mask: patch features, neighbours, their labels, and the way back to pixels."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.features.backbone import choose_device
from indexer.features.fungi import open_extractor
from indexer.images import Geometry, PatchGrid
from indexer.images.size import is_long, own_size
from indexer.images.tiles import TiledGrid
from indexer.images.windows import ImageReader
from indexer.recipe import RuntimeSettings, TransferSettings, describes_images
from retrieval.classes import ClassMap
from retrieval.errors import ConfigError
from retrieval.folder import IndexFolder
from retrieval.index import PatchIndex
from retrieval.neighbors import Filter, Neighbors
from retrieval.progress import Progress
from retrieval.store.records import ImageRecord
from segmentation.description import (
    Description,
    Extractor,
    Key,
    OnError,
    Source,
    describe_ahead,
    describe_one,
)
from segmentation.explain import Vote, VoteBook
from segmentation.labelling import input_classes, label_views
from segmentation.pixels import PixelShares
from segmentation.prior import prior_ratio
from segmentation.scales import MemoryScales
from segmentation.strips import Strip, label_strips
from segmentation.voter import Voter, check_transfer

_LOG = logging.getLogger("mycelia")

#: Class ids of pixels, (H, W).
Mask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of one photo, how sure it is, and why. Made by :class:`Segmenter`."""

    mask: Mask
    """(H, W) class ids at the photo's own size; uint8, or uint16 where an id exceeds 255."""
    confidence: npt.NDArray[np.float32]
    """(H, W) in 0..1: the winning class's share of the interpolated, perhaps refined, distribution,
    calibrated where the recipe says so (``transfer.calibration``)."""
    columns: npt.NDArray[np.int32]
    """(H, W) class columns: the mask before ids."""
    shares: npt.NDArray[np.float32]
    """(h, w, C) label distribution of each patch, with ``transfer.prior`` corrected for it."""
    neighbors: Neighbors
    """The memory patches found for each patch, row-major in the grid."""
    vote_shares: npt.NDArray[np.float32]
    """(h * w, K) share of each neighbour in its patch's vote."""
    seconds: float
    """Time it took, side by side with other images' where there are many: its share of its batch."""
    grid: PatchGrid | TiledGrid = field(repr=False)
    """Where its patches lie in the photo."""
    refined: bool = field(repr=False)
    """Whether the mask's edges follow the photo's."""
    pixels: PixelShares = field(repr=False)
    """The shares of all classes at the pixels."""
    book: VoteBook = field(repr=False)

    @property
    def geometry(self) -> Geometry:
        """How the photo's pixels map to the model's input."""
        return self.grid.geometry

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo, in pixels."""
        return self.geometry.source

    def patch_at(self, row: int, col: int) -> tuple[int, int]:
        """Grid (row, col) of the patch that covers the photo's pixel (row, col), the nearest of several.

        Raises ConfigError for a pixel outside the photo.
        """
        height, width = self.size
        if not (0 <= row < height and 0 <= col < width):
            raise ConfigError(
                f"pixel (row {row}, col {col}) lies outside the photo of {height} rows and {width} columns; "
                f"give a row in 0..{height - 1} and a column in 0..{width - 1}"
            )
        return self.grid.patch_at(row, col)

    def explain(self, row: int, col: int) -> list[Vote]:
        """The memory patches that voted at the photo's pixel (row, col), heaviest first.

        They are the neighbours of the patch that covers the pixel; the mask itself is interpolated
        between this patch and those beside it. The votes sum to 1. Needs the segmenter's index
        open. Raises ConfigError for a pixel outside the photo.
        """
        patch_row, patch_col = self.patch_at(row, col)
        query = patch_row * self.shares.shape[1] + patch_col
        found = self.neighbors
        return self.book.votes(
            found.ids[query], found.similarities[query], self.vote_shares[query], found.labels[query]
        )

    def columns_at_input(self) -> npt.NDArray[np.int32]:
        """The class columns at the size of the model's input, padding included: (H, W) int32, not refined."""
        return input_classes(self.shares, self.grid)


class Segmenter(Voter):
    """Segments photos with the labelled patches of an index; nothing is trained.

    Usually made by :meth:`open`. Use it as a context manager, or :meth:`close` it.
    """

    noun, row = "segmenter", "patch"

    def __init__(
        self,
        index: PatchIndex,
        extractor: Extractor,
        images: Iterable[ImageRecord],
        *,
        k: int | None = None,
        temperature: float | None = None,
        filter: Filter | None = None,
        thumbnail: Callable[[int], Path | None] = lambda number: None,
    ) -> None:
        """``images`` are the index's records, ``thumbnail`` finds the small picture of an image number.

        ``k`` and ``temperature`` default to the recipe's.

        ``filter`` says which memory patches may vote; a patch for which it leaves none gets the
        first class with confidence 0.

        Raises ConfigError for a ``k`` below 1, a temperature that is not positive, an empty index, or a
        ``transfer.prior`` that does not fit its classes.
        """
        super().__init__(index, extractor, k=k, temperature=temperature)
        self.extractor = extractor
        self.filter = filter
        self._thumbnail = thumbnail
        self._told_long = self._told_scale = False
        self._take_images(images)

    @classmethod
    def open(
        cls,
        path: str | Path | IndexFolder,
        *,
        runtime: RuntimeSettings | None = None,
        k: int | None = None,
        temperature: float | None = None,
        candidates: int | None = None,
        shifts: int | None = None,
        flip: bool | None = None,
        overlap: float | None = None,
        transfer: TransferSettings | None = None,
        filter: Filter | None = None,
    ) -> Segmenter:
        """A segmenter on an index, with the backbone that made its vectors.

        ``path`` is a folder, ``qdrant://HOST:PORT/COLLECTION``, or an opened :class:`IndexFolder`.
        ``runtime`` (device, precision, batch size) says where to run, ``auto`` without it, whatever the
        index was built on; ``k``, ``temperature``, ``candidates`` (rows to re-rank), ``shifts``, ``flip`` and
        ``overlap`` (of ``image``), and ``transfer`` replace the recipe's; ``filter`` as the constructor.
        Raises IndexFileError and its kinds where the index is missing, damaged or made by other weights,
        WeightsError where the weights cannot be had, and ConfigError as the constructor, for settings out of
        range, and for ``candidates`` of an index that is not re-ranked.
        """
        folder = IndexFolder.open(path)
        _check_patches(folder)
        runtime = runtime or RuntimeSettings()
        index = folder.index(device=str(choose_device(runtime.device)), candidates=candidates)
        try:
            changes: dict[str, dict[str, Any]] = {
                "rerank": {"candidates": candidates},
                "image": {"shifts": shifts, "flip": flip, "overlap": overlap},
            }
            recipe = _changed(index.manifest.recipe, changes)
            if transfer is not None:  # whole: what it leaves empty is empty
                recipe["transfer"] = transfer.model_dump(mode="json")
            manifest = replace(index.manifest, recipe=recipe)
            extractor = open_extractor(folder.path, manifest, runtime=runtime)
            opened = cls(
                index,
                extractor,
                folder.records,
                k=k,
                temperature=temperature,
                filter=filter,
                thumbnail=folder.thumbnail,
            )
            opened._folder = folder
            return opened
        except BaseException:
            index.close()
            raise

    def _take_images(self, images: Iterable[ImageRecord]) -> None:
        """What is made of the index's records and rows."""
        self.images = tuple(images)
        recipe, patch_size = self.extractor.recipe, self.extractor.patch_size
        self._book = VoteBook(
            self.index, self.images, recipe=recipe, patch_size=patch_size, thumbnail=self._thumbnail
        )
        self._prior = prior_ratio(self.index, recipe.transfer.prior)
        self._scales = MemoryScales.of(self.images, recipe.image)

    @property
    def book(self) -> VoteBook:
        """Who the rows of the index are."""
        return self._book

    def describe(self, source: Source) -> Description:
        """What the model sees in one photo: a path, a PIL image, or an array (H, W, 3) uint8 RGB.

        The costly half of :meth:`segment`. Raises ImageError for a photo that cannot be read, and
        ConfigError where this segmenter is closed.
        """
        self._check_open()
        return describe_one(self.extractor, source)

    def label(
        self,
        description: Description,
        *,
        k: int | None = None,
        temperature: float | None = None,
        filter: Filter | None = None,
    ) -> Segmentation:
        """The mask of a photo that was described by the same backbone and features.

        ``k``, ``temperature`` and ``filter`` are this segmenter's unless given (an empty ``Filter()``
        lets every patch vote). Raises ConfigError as the constructor, and where this segmenter is closed.
        """
        self._check_open()
        k = self.k if k is None else k
        temperature = self.temperature if temperature is None else temperature
        check_transfer(k, temperature)
        start = time.perf_counter()
        grid, chosen = description.views[0].grid, self.filter if filter is None else filter
        self._warn_of_shape(grid.geometry.source)
        transfer = self.recipe.transfer.model_copy(update={"temperature": temperature})
        refined = transfer.refine != "none"
        if refined and description.photo is None:
            raise ConfigError(
                "this description lacks its photo; describe it with the segmenter that labels it"
            )
        found = [
            self.index.search(view.vectors, min(k, len(self.index)), filter=chosen)
            for view in description.views
        ]
        neighbors, labelled, pixels = label_views(found, grid, transfer, description.photo, self._prior)
        return Segmentation(
            mask=mask_of_columns(labelled.columns, self.classes),
            confidence=labelled.confidence,
            columns=labelled.columns,
            shares=labelled.shares,
            neighbors=neighbors,
            vote_shares=labelled.vote_shares,
            seconds=description.seconds + time.perf_counter() - start,
            grid=grid,
            refined=refined,
            pixels=pixels,
            book=self._book,
        )

    def segment(self, source: Source) -> Segmentation:
        """The mask of one photo: :meth:`describe`, then :meth:`label`."""
        return self.label(self.describe(source))

    def describe_many(
        self, photos: Iterable[tuple[Key, Source]], *, on_error: OnError[Key] | None = None
    ) -> Generator[tuple[Key, Description], None, None]:
        """Each (key, photo) of many described, with its key, in their order.

        Reading, the model and the use of what is given run side by side: ``photos``, and functions
        among them, are called in another thread, up to two batches of ``runtime.batch_size`` early. A
        photo that cannot be read raises its DataError before anything of its batch is given; where
        there is ``on_error``, that is told of it, in the other thread, and the rest goes on. Close the
        generator to stop early. Raises ConfigError where this segmenter is closed.
        """
        self._check_open()
        return describe_ahead(self.extractor, photos, on_error=on_error)

    def segment_many(
        self, photos: Iterable[tuple[Key, Source]], *, on_error: OnError[Key] | None = None
    ) -> Generator[tuple[Key, Segmentation], None, None]:
        """Each (key, photo) of many segmented, with its key, in their order; as :meth:`describe_many`.

        The patches are looked up in the caller's thread.
        """
        described = self.describe_many(photos, on_error=on_error)
        return self._labelled(described)

    def segment_strips(
        self, reader: ImageReader, *, watched: Sequence[int] = (), progress: Progress | None = None
    ) -> Generator[Strip, None, None]:
        """The classes of a photo of any size, a strip of rows at a time: what :meth:`segment` gives of it.

        The photo is read where it is looked at, and what is held at once depends on its width alone, so
        there are no votes to explain. ``watched`` are class columns whose largest shares each strip has.
        Close the generator to stop early. Raises ImageError for pixels that cannot be read, and ConfigError
        for a recipe whose masks follow the photo's edges, and where this segmenter is closed.
        """
        self._check_open()
        transfer = self.recipe.transfer.model_copy(update={"temperature": self.temperature})
        if transfer.refine != "none":
            raise ConfigError(
                f"transfer.refine={transfer.refine} needs a whole photo in memory, and one so large is read "
                "in parts; set transfer.refine=none"
            )
        self._warn_of_shape(reader.shape)
        search = partial(self.index.search, k=min(self.k, len(self.index)), filter=self.filter)
        return label_strips(
            self.extractor, reader, search, transfer, self._prior, watched=watched, progress=progress
        )

    def _labelled(
        self, described: Generator[tuple[Key, Description], None, None]
    ) -> Generator[tuple[Key, Segmentation], None, None]:
        try:
            for key, description in described:
                yield key, self.label(description)
        finally:
            described.close()

    def _warn_of_shape(self, shape: tuple[int, int]) -> None:
        """Say, of the first photo (H, W) that does not fit the index, what would be better."""
        image = self.recipe.image
        if image.scale is not None:
            return
        size = image.fixed_size
        if not self._told_long and is_long(shape, size):
            self._told_long = True
            better = own_size(shape, usual=size, patch=self.extractor.patch_size)
            _LOG.warning(
                "a photo of %d x %d pixels (height x width) is much longer or wider than the index's "
                "image.size [%d,%d]: what is thin in it is lost; for such photos build an index with "
                "image.size=[%d,%d]",
                *(*shape, *size, *better),
            )
        if not self._told_scale and (gap := self._scales.gap(shape)) is not None:
            self._told_scale = True
            _LOG.warning("%s", gap)


def _check_patches(folder: IndexFolder) -> None:
    if describes_images(folder.recipe):
        raise ConfigError(
            f"{folder.path} describes whole images, which have no masks to give; use `mycelia classify` "
            "or `mycelia similar`, or build an index of images with masks"
        )


def _changed(recipe: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A recipe's plain data with other values in its sections, where they are not None."""
    changed = dict(recipe)
    for name, values in changes.items():
        given = {key: value for key, value in values.items() if value is not None}
        if given:
            changed[name] = {**(recipe.get(name) or {}), **given}
    return changed


def mask_of_columns(columns: npt.NDArray[np.int32], classes: ClassMap) -> Mask:
    """Class ids of class columns (0 and up), in the smallest dtype that holds every id."""
    ids: Mask = classes.ids if classes.mask_dtype is np.uint16 else classes.ids.astype(np.uint8)
    return ids[columns]
