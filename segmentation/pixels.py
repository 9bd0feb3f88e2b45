"""The class shares of a photo's pixels, a strip of rows at a time, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.images import PatchGrid
from indexer.images.tiles import TiledGrid
from indexer.recipe import TransferSettings
from retrieval.classes import ClassMap
from segmentation.bands import bands
from segmentation.blend import Blend, blend_of
from segmentation.refine import refined_classes, refined_strips
from segmentation.temperature import Winners, calibrated, raise_peaks, share_of
from segmentation.upsample import STRIP, classes_at, interpolated

Mask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of pixels, and the shares there of the classes that a photo's patches have."""

    rows: slice
    values: npt.NDArray[np.float32]
    """(P, r, W) in 0..1."""
    present: npt.NDArray[np.intp]
    """(P,) rising class columns; all others have no share."""


@dataclass(frozen=True, eq=False)
class PixelShares:
    """The label distributions of a photo's patches, and how its pixels' follow from them."""

    shares: npt.NDArray[np.float32]
    """(h, w, C) of the patches; of a grid of tiles, those of all tiles."""
    grid: PatchGrid | TiledGrid
    transfer: TransferSettings
    photo: npt.NDArray[np.uint8] | None
    """(H, W, 3) RGB where masks follow the photo's edges, else None."""
    near: npt.NDArray[np.float32] | None = None
    """(h, w) similarities of the patches' nearest rows in the memory."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo."""
        return self.grid.geometry.source

    def winners(self) -> Winners:
        """The winning class of each pixel (H, W), and its share, calibrated."""
        if self.photo is None:
            return self.winners_of(slice(0, self.size[0]))
        transfer = self.transfer
        columns, confidence = refined_classes(
            self.shares, self.grid, self.photo, radius=transfer.refine_radius, eps=transfer.refine_eps
        )
        if transfer.calibration is not None:
            for strip in self.strips():
                confidence[strip.rows] = self._calibrated(strip.values.max(axis=0, initial=0), strip)
        return Winners(columns, confidence, np.zeros(0, np.float32))

    def winners_of(self, part: slice, watched: Sequence[int] = ()) -> Winners:
        """:meth:`winners` of some rows, not refined, and the peaks there of ``watched`` class columns."""
        tau = self.transfer.calibration
        if isinstance(self.grid, TiledGrid):
            return self._blend(self.grid).classes(part, tau=tau, watched=watched)
        rows, cols = self.grid.coordinates()
        columns, confidence = classes_at(self._seen(self.grid), rows[part], cols)
        peaks = np.zeros(len(watched), np.float32)
        if tau is not None or watched:
            present, classes = self._present(), self.shares.shape[2]
            for place, values in self._interpolated(self.grid, present, part):
                best = values.max(axis=0, initial=0)
                if tau is not None:
                    own = slice(place.start - part.start, place.stop - part.start)
                    confidence[own] = calibrated(best, values, tau, classes)
                raise_peaks(peaks, watched, values, present, tau, classes)
        return Winners(columns, confidence, peaks)

    def unknown(self, least: float, part: slice = slice(None)) -> npt.NDArray[np.bool_]:
        """Which pixels, of all rows or of some, are less similar to the memory than ``least``: (r, W).

        The similarities of the patches' nearest rows are interpolated as their shares are.
        """
        assert self.near is not None
        near = self.near[:, :, None]
        if isinstance(self.grid, TiledGrid):
            places = (self.grid.geometry.input_places(axis) for axis in (0, 1))
            return below(blend_of(near, self.grid, *places), least, part)
        height, width = self.grid.seen
        rows, cols = self.grid.coordinates()
        unknown: npt.NDArray[np.bool_] = interpolated(near[:height, :width], rows[part], cols)[0] < least
        return unknown

    def of_class(self, column: int) -> npt.NDArray[np.float32]:
        """One class's share of each pixel, calibrated as confidence is: (H, W) float32 in 0..1."""
        plane = np.zeros(self.size, dtype=np.float32)
        for strip in self.strips():
            plane[strip.rows] = self._calibrated(share_of(column, strip.values, strip.present), strip)
        return plane

    def strips(self, *, every: int = 1) -> Iterator[Strip]:
        """The shares of all pixels, or of every ``every``-th row and column, before calibration."""
        present, whole = self._present(), slice(0, self.size[0])
        if self.photo is not None:
            pixels = self._refined(self.photo, present)
        elif isinstance(self.grid, TiledGrid):
            pixels = self._blended(self.grid, present)
        else:
            pixels = self._interpolated(self.grid, present, whole)
        for rows, values in pixels:
            first = -rows.start % every  # the raster goes on from strip to strip
            kept = slice(rows.start + first, rows.stop, every)
            if kept.start < kept.stop:
                yield Strip(kept, values[:, first::every, ::every], present)

    def _present(self) -> npt.NDArray[np.intp]:
        seen = self._seen(self.grid) if isinstance(self.grid, PatchGrid) else self.shares
        return np.flatnonzero(seen.any(axis=(0, 1)))

    def _seen(self, grid: PatchGrid) -> npt.NDArray[np.float32]:
        return self.shares[: grid.seen[0], : grid.seen[1]]

    def _blend(self, grid: TiledGrid) -> Blend:
        rows, cols = (grid.geometry.input_places(axis) for axis in (0, 1))
        return blend_of(self.shares, grid, rows, cols)

    def _interpolated(
        self, grid: PatchGrid, present: npt.NDArray[np.intp], whole: slice
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        seen, (rows, cols) = self._seen(grid), grid.coordinates()
        rows = np.clip(rows, 0, len(seen) - 1)
        for part in _parts(whole, len(present) * self.size[1]):
            first, last = int(rows[part][0]), int(rows[part][-1]) + 2  # of the grid, in between
            near = seen[first:last, :, present]
            yield part, interpolated(near, rows[part] - first, cols)

    def _blended(
        self, grid: TiledGrid, present: npt.NDArray[np.intp]
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        blend = self._blend(grid)
        for part in _parts(slice(0, self.size[0]), len(present) * self.size[1]):
            yield part, blend.planes(present, part)

    def _refined(
        self, photo: npt.NDArray[np.uint8], present: npt.NDArray[np.intp]
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        transfer = self.transfer
        for rows, values in refined_strips(
            self.shares, self.grid, photo, present, radius=transfer.refine_radius, eps=transfer.refine_eps
        ):
            yield rows, np.clip(values, 0, 1, out=values)

    def _calibrated(self, share: npt.NDArray[np.floating], strip: Strip) -> npt.NDArray[np.float32]:
        return calibrated(share, strip.values, self.transfer.calibration, self.shares.shape[2])


def below(near: Blend, least: float, part: slice) -> npt.NDArray[np.bool_]:
    """Where the one plane of a blend is below ``least``, in some rows: (r, W)."""
    unknown: npt.NDArray[np.bool_] = near.planes(np.zeros(1, dtype=np.int64), part)[0] < least
    return unknown


def _parts(whole: slice, width: int) -> Iterator[slice]:
    """Some rows at a time, with no more than about ``STRIP`` numbers where each row has ``width``."""
    step = max(1, STRIP // max(1, width))
    for start in range(whole.start, whole.stop, step):
        yield slice(start, min(start + step, whole.stop))


def mask_of_columns(columns: npt.NDArray[np.int32], classes: ClassMap) -> Mask:
    """Class ids of class columns (0 and up, -1 blank), in the smallest dtype that holds every id.

    Raises MaskError where something is blank and no id is left for it.
    """
    ids = classes.ids
    if columns.min(initial=0) < 0:
        ids = np.append(ids, np.uint16(classes.blank_id))  # the last one serves the column -1
    ids = ids if classes.mask_dtype is np.uint16 else ids.astype(np.uint8)
    mask: Mask = np.empty(columns.shape, dtype=ids.dtype)
    for rows in bands(columns.shape):  # NumPy makes int64 of what it looks up by
        mask[rows] = ids[columns[rows]]
    return mask
