"""Class shares of overlapping tiles as one: at each place the weighted mean of those of the tiles.

A place is seen by up to a few tiles, each of which counts by its distance from the tile's nearer edge
(:meth:`indexer.images.tiles.TiledGrid.spans`). Only blocks of places are held, never all of a photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from indexer.images.grid import Places
from indexer.images.tiles import Span, TiledGrid
from segmentation.temperature import Winners, calibrated, raise_peaks
from segmentation.upsample import STRIP, interpolated

Shares = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TileShares:
    """The label distributions of a tile's patches."""

    shares: Shares
    """(h, w, C) of the patches that see some of the photo."""
    present: npt.NDArray[np.int64]
    """The classes (columns) with a share in any of them."""
    near: Shares | None = None
    """(h, w) similarities of the patches' nearest rows, where they are wanted."""

    @classmethod
    def of(cls, shares: Shares) -> TileShares:
        """Those of a tile's grid without its padding, (h, w, C)."""
        return cls(shares, np.flatnonzero(shares.any(axis=(0, 1))))


class Blend:
    """The classes of places in a photo, from the shares of the tiles around them."""

    def __init__(
        self, grid: TiledGrid, rows: Places, cols: Places, tile: Callable[[int, int], TileShares]
    ) -> None:
        """``rows`` (H,) and ``cols`` (W,) are places of the scaled photo, rising, in its pixels.

        ``tile`` gives the shares of the tile in a row and a column of tiles; it is asked for those alone that
        see the places that are wanted.
        """
        self.shape = len(rows), len(cols)
        self._down, self._across = grid.spans(0, rows), grid.spans(1, cols)
        self._tile = tile

    def classes(
        self, rows: slice, *, tau: float | None = None, watched: Sequence[int] = (), strip: int = STRIP
    ) -> Winners:
        """The winning classes of some rows, their shares calibrated by ``tau``, and watched classes' peaks.

        No more than about ``strip`` numbers of a kind are held at once.
        """
        first, last, _ = rows.indices(self.shape[0])
        columns = np.zeros((last - first, self.shape[1]), dtype=np.int32)
        confidence = np.zeros(columns.shape, dtype=np.float32)
        peaks = np.zeros(len(watched), dtype=np.float32)
        for down, above in cells(self._down, first, last):
            for across, beside in cells(self._across, 0, self.shape[1]):
                present = self._present(above, beside)
                if present.size == 0:
                    continue
                classes = self._tile(above[0], beside[0]).shares.shape[2]
                step = max(1, strip // (present.size * (across.stop - across.start)))
                for start in range(down.start, down.stop, step):
                    part = slice(start, min(start + step, down.stop))
                    block = self._block(part, across, present, above, beside)
                    winner = block.argmax(axis=0)
                    place = slice(part.start - first, part.stop - first), across
                    columns[place] = present[winner]
                    best = np.take_along_axis(block, winner[None], axis=0)[0]
                    confidence[place] = calibrated(best, block, tau, classes)
                    raise_peaks(peaks, watched, block, present, tau, classes)
        return Winners(columns, np.minimum(confidence, 1.0, out=confidence), np.minimum(peaks, 1.0))

    def planes(self, group: npt.NDArray[np.int64], rows: slice = slice(None)) -> Shares:
        """The shares of some classes at all places, or at some rows of them: (P, r, W) float32."""
        first, last, _ = rows.indices(self.shape[0])
        found = np.empty((len(group), last - first, self.shape[1]), dtype=np.float32)
        for down, above in cells(self._down, first, last):
            for across, beside in cells(self._across, 0, self.shape[1]):
                place = slice(down.start - first, down.stop - first)
                found[:, place, across] = self._block(down, across, group, above, beside)
        return found

    def _present(self, above: Sequence[int], beside: Sequence[int]) -> npt.NDArray[np.int64]:
        return np.unique(np.concatenate([self._tile(i, j).present for i in above for j in beside]))

    def _block(
        self,
        rows: slice,
        cols: slice,
        group: npt.NDArray[np.int64],
        above: Sequence[int],
        beside: Sequence[int],
    ) -> Shares:
        """Blended shares (P, r, c) of classes at places that the same tiles see."""
        total = np.zeros((len(group), rows.stop - rows.start, cols.stop - cols.start), dtype=np.float32)
        for i in above:
            down, row_weights = _part(self._down[i], rows)
            for j in beside:
                across, col_weights = _part(self._across[j], cols)
                shares = self._tile(i, j).shares
                down = np.clip(down, 0, len(shares) - 1)
                top = int(down[0])
                near = shares[top : int(down[-1]) + 2, :, group]
                plane = interpolated(near, down - top, across)
                if len(above) * len(beside) > 1:
                    plane *= row_weights[:, None] * col_weights
                total += plane
        return total


def cells(spans: Sequence[Span], first: int, last: int) -> Iterator[tuple[slice, list[int]]]:
    """The stretches of places ``first`` to ``last`` that the same tiles see, and the tiles' numbers."""
    inside = [(max(span.part.start, first), min(span.part.stop, last)) for span in spans]
    edges = sorted({first, last, *(edge for start, stop in inside if start < stop for edge in (start, stop))})
    for start, stop in pairwise(edges):
        seeing = [number for number, (a, b) in enumerate(inside) if a <= start and stop <= b]
        yield slice(start, stop), seeing


def _part(span: Span, places: slice) -> tuple[Places, Shares]:
    part = slice(places.start - span.part.start, places.stop - span.part.start)
    return span.coordinates[part], span.weights[part]


def blend_of(shares: Shares, grid: TiledGrid, rows: Places, cols: Places) -> Blend:
    """The blend of a photo whose shares (rows, cols, C), those of all tiles together, are in memory."""
    height, width = grid.tile.shape
    seen = grid.tile.seen
    tiles = [
        [
            TileShares.of(shares[i * height :, j * width :][: seen[0], : seen[1]])
            for j in range(grid.tiling.counts[1])
        ]
        for i in range(grid.tiling.counts[0])
    ]
    return Blend(grid, rows, cols, lambda row, col: tiles[row][col])
