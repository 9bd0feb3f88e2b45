"""The tiles in which a photo is seen that is larger, at its scale, than the model's input.

Positions are (row, col). The *scaled photo* is the photo at its scale, in pixels of the model's input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from indexer.images.geometry import Box, Geometry
from indexer.images.grid import PatchGrid, Places

Size = tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of a photo lie: a grid of equal tiles, which together cover the scaled photo."""

    source: Size  #: (H0, W0) of the photo, pixels
    scaled: Size  #: (height, width) of the scaled photo
    size: Size  #: (H, W) of the model's input, and so of a tile
    starts: tuple[tuple[int, ...], tuple[int, ...]]  #: first row, and first column, of each tile

    @property
    def counts(self) -> Size:
        """Rows and columns of tiles."""
        return len(self.starts[0]), len(self.starts[1])

    @property
    def content(self) -> Size:
        """(height, width) of a tile that shows some of the photo; the rest, of small photos, is padding."""
        return min(self.scaled[0], self.size[0]), min(self.scaled[1], self.size[1])

    def geometry(self, row: int, col: int) -> Geometry:
        """How the photo's pixels map to those of one tile, and back."""
        (top, bottom), (left, right) = (
            (
                start * self.source[axis] / self.scaled[axis],
                (start + self.content[axis]) * self.source[axis] / self.scaled[axis],
            )
            for axis, start in enumerate((self.starts[0][row], self.starts[1][col]))
        )
        box = top, left, min(bottom, float(self.source[0])), min(right, float(self.source[1]))
        return Geometry(self.source, self.size, box, self.content)

    def geometries(self) -> list[Geometry]:
        """Those of all tiles, row by row."""
        rows, cols = self.counts
        return [self.geometry(row, col) for row in range(rows) for col in range(cols)]

    @property
    def whole(self) -> Geometry:
        """How the photo's pixels map to those of the scaled photo, or to the one tile that holds it."""
        if self.counts == (1, 1):
            return self.geometry(0, 0)
        box = (0.0, 0.0, float(self.source[0]), float(self.source[1]))
        size = max(self.scaled[0], self.size[0]), max(self.scaled[1], self.size[1])
        return Geometry(self.source, size, box, self.scaled)


def lay_tiles(source: Size, size: Size, *, scale: float, overlap: float = 0.0) -> Tiling:
    """The tiles of a photo (H0, W0) that a model with input (H, W) sees at a scale.

    ``scale`` is pixels of the model's input per pixel of the photo, along both axes alike. Neighbouring
    tiles share at least ``overlap`` (0 to 1/2) of their extent; they are spread evenly, the first and the
    last at the photo's edges, so that no tile of a photo that is large enough has padding. Memory images
    have tiles without an overlap, but what that takes.
    """
    scaled = tuple(max(1, math.floor(extent * scale + 0.5)) for extent in source)
    starts = tuple(_starts(*extents, overlap) for extents in zip(scaled, size, strict=True))
    return Tiling(source, (scaled[0], scaled[1]), size, (starts[0], starts[1]))


def _starts(extent: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Where tiles begin along an axis."""
    if extent <= tile:
        return (0,)
    step = max(1, math.floor(tile * (1 - overlap)))
    gaps = -(-(extent - tile) // step)
    return tuple((2 * (extent - tile) * i + gaps) // (2 * gaps) for i in range(gaps + 1))


def lay_grid(tiling: Tiling, patch_size: Size, shifts: int = 1) -> PatchGrid | TiledGrid:
    """The grid of a photo's patches: of the one tile that holds it, or of several."""
    if tiling.counts == (1, 1):
        return PatchGrid(tiling.geometry(0, 0), patch_size, shifts)
    return TiledGrid(tiling, patch_size, shifts)


@dataclass(frozen=True, eq=False)
class Span:
    """What one row (or column) of tiles says of places along an axis."""

    part: slice
    """Which of the places it covers."""
    coordinates: Places
    """Where they lie in the tile's own grid of patches."""
    weights: npt.NDArray[np.float32]
    """How much it counts at each; over all tiles they sum to 1."""


@dataclass(frozen=True)
class TiledGrid:
    """The patches of all tiles of a photo as one grid, for ``shifts`` x ``shifts`` passes of each.

    The patches of a tile stand together: rows of tiles, in each the rows of its patches; columns alike. Where
    tiles overlap, a place of the photo is seen by several patches.
    """

    tiling: Tiling
    patch_size: Size  #: (height, width) in pixels of the model's input
    shifts: int = 1  #: passes along each axis

    @cached_property
    def tile(self) -> PatchGrid:
        """The grid of the first tile; those of the others are alike."""
        return PatchGrid(self.tiling.geometry(0, 0), self.patch_size, self.shifts)

    @property
    def geometry(self) -> Geometry:
        """How the photo's pixels map to those of the scaled photo."""
        return self.tiling.whole

    @property
    def shape(self) -> Size:
        """Rows and columns of patches, those that see nothing but padding included."""
        (height, width), (rows, cols) = self.tile.shape, self.tiling.counts
        return rows * height, cols * width

    def grids(self) -> list[PatchGrid]:
        """The grid of each tile, row by row."""
        return [PatchGrid(geometry, self.patch_size, self.shifts) for geometry in self.tiling.geometries()]

    def spans(self, axis: int, places: Places) -> list[Span]:
        """What each row (axis 0) or column (1) of tiles says of places of the scaled photo.

        ``places`` (n,) rise; they are in pixels (edges, not centres). A tile counts by the distance from its
        nearer edge, so that seams do not show.
        """
        content = self.tiling.content[axis]
        parts, distances = [], []
        for start in self.tiling.starts[axis]:
            part = slice(*np.searchsorted(places, (start, start + content)).tolist())
            inside = places[part] - start
            parts.append((part, inside))
            # a place on an edge that no other tile covers still has to count
            distances.append(np.minimum(inside, content - inside) + 1e-3)
        total = np.zeros(len(places))
        for (part, _), distance in zip(parts, distances, strict=True):
            total[part] += distance
        return [
            Span(part, self.tile.at_input(axis, inside), (distance / total[part]).astype(np.float32))
            for (part, inside), distance in zip(parts, distances, strict=True)
        ]

    def patch_at(self, row: int, col: int) -> tuple[int, int]:
        """Grid (row, col) of the patch at the photo's pixel (row, col), in the tile that counts most."""
        found = []
        for axis, at in enumerate((row, col)):
            spans = self.spans(axis, self.geometry.input_places(axis)[at : at + 1])
            number = max(range(len(spans)), key=lambda i: float(spans[i].weights.sum()))
            nearest = int(float(spans[number].coordinates[0]) + 0.5)
            found.append(number * self.tile.shape[axis] + min(nearest, self.tile.seen[axis] - 1))
        return found[0], found[1]

    def patch_box(self, row: int, col: int) -> Box:
        """What the patch at grid (row, col) sees: (top, left, bottom, right), source pixels, clipped."""
        (tile_row, inner_row), (tile_col, inner_col) = (
            divmod(at, extent) for at, extent in zip((row, col), self.tile.shape, strict=True)
        )
        grid = PatchGrid(self.tiling.geometry(tile_row, tile_col), self.patch_size, self.shifts)
        return grid.patch_box(inner_row, inner_col)
