"""Why a pixel got its class: the memory patches that voted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.images import Box, PatchGrid, make_geometry
from indexer.images.tiles import TiledGrid, lay_tiles
from indexer.recipe import Recipe
from retrieval.errors import IndexDamagedError
from retrieval.index import PatchIndex
from retrieval.neighbors import NO_NEIGHBOR
from retrieval.store.records import ImageRecord
from segmentation.bound import BoundToIndex


@dataclass(frozen=True)
class Vote:
    """One memory patch that voted for the class of a query patch."""

    number: int
    """The memory image's number, that of its first epoch."""
    image_id: str
    image_path: str
    image_size: tuple[int, int]
    """(height, width) of the memory image, in pixels."""
    thumbnail: str | None
    """A small picture of the whole memory image, which the index keeps; None where it has none."""
    patch: tuple[int, int]
    """(row, col) in the memory image's patch grid, the fine one of all passes with ``bank.shifts``."""
    box: Box
    """(top, left, bottom, right) of the patch in the memory image's source pixels, floats."""
    similarity: float
    weight: float
    """Share of the vote in 0..1; the votes of one patch sum to 1."""
    label: dict[str, float]
    """Class name -> share of the memory patch's labelled pixels, largest first; sums to 1."""


class VoteBook(BoundToIndex):
    """Looks up who the rows of an index are."""

    def __init__(
        self,
        index: PatchIndex,
        images: Iterable[ImageRecord],
        *,
        recipe: Recipe,
        patch_size: tuple[int, int],
        thumbnail: Callable[[int], Path | None],
    ) -> None:
        """``images`` are the index's records, ``patch_size`` is (height, width) in input pixels.

        ``thumbnail`` finds the small picture of an image number, which the first epoch alone has.
        """
        self._index = index
        self._images = {record.number: record for record in images}
        self._first_epochs = {
            (record.id, record.sha256): record.number for record in self._images.values() if not record.epoch
        }
        self._thumbnail = thumbnail
        self._recipe = recipe
        self._patch_size = patch_size

    def votes(
        self,
        ids: npt.NDArray[np.int64],
        similarities: npt.NDArray[np.float32],
        vote_shares: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
    ) -> list[Vote]:
        """The votes of one query: ids, similarities, vote_shares (K,) and labels (K, C), heaviest first.

        Raises IndexDamagedError where a row belongs to an image that the index does not list.
        """
        found = np.flatnonzero(ids != NO_NEIGHBOR)
        order = found[np.argsort(-vote_shares[found], kind="stable")]
        places = self._index.patches(ids[order])
        return [
            self._vote(place, float(similarities[i]), float(vote_shares[i]), labels[i])
            for place, i in zip(places, order, strict=True)
        ]

    def box(self, place: tuple[int, int, int]) -> tuple[Box, tuple[int, int]]:
        """Where a memory patch (image number, grid row, grid col) lies in its image, and that one's (H, W).

        The box (top, left, bottom, right) is in pixels. Raises IndexDamagedError as :meth:`votes`.
        """
        record = self._record(place[0])
        return self._box(record, *place[1:]), (record.height, record.width)

    def _record(self, number: int) -> ImageRecord:
        record = self._images.get(number)
        if record is None:
            raise IndexDamagedError(
                f"the index has patches of image number {number}, but images.jsonl does not list it; "
                "restore the index from a copy or build it again"
            )
        return record

    def _vote(
        self, place: npt.NDArray[np.int32], similarity: float, weight: float, label: npt.NDArray[np.uint8]
    ) -> Vote:
        number, row, col = (int(value) for value in place)
        record = self._record(number)
        number = self._first_epochs.get((record.id, record.sha256), number)
        thumbnail = self._thumbnail(number)
        return Vote(
            number=number,
            image_id=record.id,
            image_path=record.path,
            image_size=(record.height, record.width),
            thumbnail=None if thumbnail is None else str(thumbnail),
            patch=(row, col),
            box=self._box(record, row, col),
            similarity=similarity,
            weight=weight,
            label=self._named(label),
        )

    def _box(self, record: ImageRecord, row: int, col: int) -> Box:
        settings, shifts = self._recipe.image, self._recipe.bank.shifts
        source = record.height, record.width
        if settings.scale is not None:
            tiling = lay_tiles(source, settings.fixed_size, scale=settings.scale)
            return TiledGrid(tiling, self._patch_size, shifts).patch_box(row, col)
        geometry = make_geometry(source, settings.fixed_size, fit=settings.fit, box=record.box)
        return PatchGrid(geometry, self._patch_size, shifts).patch_box(row, col)

    def _named(self, label: npt.NDArray[np.uint8]) -> dict[str, float]:
        names, total = self._index.classes.names, int(label.sum(dtype=np.int64))
        columns = np.argsort(-label.astype(np.int64), kind="stable")
        return {names[c]: float(label[c]) / total for c in columns if label[c]}
