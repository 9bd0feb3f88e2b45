"""The patches of a photo as one grid: those of one pass of the model, or of several shifted ones interleaved.

Shifting the photo by parts of a patch gives a grid as many times finer at the same scale. Positions are
(row, col).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.images.geometry import Box, Geometry
from retrieval.errors import ConfigError

Places = npt.NDArray[np.floating]


@dataclass(frozen=True)
class PatchGrid:
    """Where the patches lie that ``shifts`` x ``shifts`` passes of a photo see.

    Patch i of the pass that moves the photo by d pixels of the model's input is centred at
    ``(i + 1/2) p + d`` of it, for the patch size p and each d of :meth:`moves`; sorted by their centres, the
    patches of all passes are the grid: patch (i, j) of the pass that is moved the (k, l)th time lies at
    (i n + k, j n + l) of it, n the shifts. Raises ConfigError where patches have fewer pixels than shifts.
    """

    geometry: Geometry
    patch_size: tuple[int, int]  #: (height, width) in pixels of the model's input
    shifts: int = 1  #: passes along each axis

    def __post_init__(self) -> None:
        if not 1 <= self.shifts <= min(self.patch_size):
            raise ConfigError(
                f"image.shifts or bank.shifts={self.shifts} does not fit patches of {self.patch_size[0]} x "
                f"{self.patch_size[1]} pixels; it is 1 or more, and at most a patch's side"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, those that see nothing but padding included."""
        (height, width), (tall, wide) = self.geometry.size, self.patch_size
        return height // tall * self.shifts, width // wide * self.shifts

    @property
    def seen(self) -> tuple[int, int]:
        """Rows and columns that see some of the photo; beyond them is padding alone."""
        rows, cols = self.geometry.content_grid(self.patch_size)
        return min(rows * self.shifts, self.shape[0]), min(cols * self.shifts, self.shape[1])

    def moves(self, axis: int) -> list[int]:
        """By how many pixels each pass moves the photo, along an axis: k p / n, rounded to whole pixels."""
        return [
            (2 * k * self.patch_size[axis] + self.shifts) // (2 * self.shifts) for k in range(self.shifts)
        ]

    def moved(self, axis: int, move: int) -> npt.NDArray[np.int64]:
        """Which pixel of the model's input each pixel of a moved one shows: (H,) or (W,) int64.

        The photo's last row or column is repeated in what the move uncovers; padding stays where it is.
        """
        places = np.arange(self.geometry.size[axis])
        content = self.geometry.content[axis]
        return np.where(places < content, np.minimum(places + move, content - 1), places)

    def coordinates(self) -> tuple[Places, Places]:
        """Where each pixel of the photo lies in this grid: rows (H0,) and columns (W0,), floats.

        A patch's centre has integer coordinates, and between two centres they run linearly.
        """
        if self.shifts == 1:
            return self.geometry.grid_coordinates(self.patch_size)
        rows, cols = (self.at_input(axis, self.geometry.input_places(axis)) for axis in (0, 1))
        return rows, cols

    def at_input(self, axis: int, places: Places) -> Places:
        """Grid coordinates of places along an axis of the model's input, in its pixels (edges, not centres).

        Of shifted passes they are clamped to the grid.
        """
        patch = self.patch_size[axis]
        if self.shifts == 1:
            return places / patch - 0.5
        count = self.shape[axis] // self.shifts
        centres = (np.arange(count)[:, None] + 0.5) * patch + np.array(self.moves(axis))
        return np.interp(places, centres.ravel(), np.arange(self.shape[axis], dtype=np.float64))

    def patch_at(self, row: int, col: int) -> tuple[int, int]:
        """Grid (row, col) of the patch that covers the photo's pixel (row, col), the nearest of several."""
        if self.shifts == 1:
            rows, cols = self.geometry.patch_of_pixels(self.patch_size)
            return int(rows[row]), int(cols[col])
        places = (float(axis[at]) for axis, at in zip(self.coordinates(), (row, col), strict=True))
        nearest = (min(int(place + 0.5), last - 1) for place, last in zip(places, self.seen, strict=True))
        return next(nearest), next(nearest)

    def patch_box(self, row: int, col: int) -> Box:
        """What the patch at grid (row, col) sees: (top, left, bottom, right), source pixels, clipped."""
        edges = []
        for axis, position in enumerate((row, col)):
            index, move = divmod(position, self.shifts)
            start = index * self.patch_size[axis] + self.moves(axis)[move]
            edges.append(self.geometry.source_span(axis, start, start + self.patch_size[axis]))
        (top, bottom), (left, right) = edges
        return top, left, bottom, right
