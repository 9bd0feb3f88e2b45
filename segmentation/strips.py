"""Photos of any size: tiles are read, described and labelled as they are needed, strips of rows are given.

What is held at once are the shares of a few rows of tiles, and a strip of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from indexer.features.passes import extract_passes
from indexer.images import PatchGrid, make_geometry
from indexer.images.tiles import TiledGrid, lay_grid
from indexer.images.windows import ImageReader, see
from indexer.recipe import TransferSettings
from retrieval.classes import UNLABELLED
from retrieval.neighbors import Neighbors
from retrieval.progress import Progress, Task, track
from segmentation.blend import Blend, TileShares
from segmentation.description import Extractor, tiling_of
from segmentation.labelling import label_patches
from segmentation.pipeline import ahead
from segmentation.pixels import PixelShares, below
from segmentation.temperature import Winners
from segmentation.unknown import nearness_of
from segmentation.upsample import STRIP

#: Rows of a strip are a multiple of this where that is not too much: the side of the blocks of a TIFF.
BLOCK = 256
#: Rows of a strip of the widest photos.
FEWEST_ROWS = 16


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of a photo."""

    rows: slice
    columns: npt.NDArray[np.int32]
    """(r, W) class columns; -1 where the mask is left blank."""
    confidence: npt.NDArray[np.float32]
    """(r, W) in 0..1: the winning class's share, calibrated where the recipe says so."""
    peaks: npt.NDArray[np.float32]
    """(n,) in 0..1: the largest share of each class that is watched, calibrated alike."""


#: Neighbours of vectors (T, D).
Search = Callable[[npt.NDArray[np.float32]], Neighbors]


@dataclass(frozen=True, eq=False)
class _Labels:
    """How patches get their labels."""

    search: Search
    transfer: TransferSettings
    prior: npt.NDArray[np.float32] | None

    def of_tile(self, views: npt.NDArray[np.float32], grid: PatchGrid) -> TileShares:
        """Those of a tile's patches as its views (M, T, D) see them, without its padding."""
        found = [self.search(view) for view in views]
        shares = label_patches(found, grid, self.transfer, self.prior)[2]
        height, width = grid.seen
        near = nearness_of(found, grid.shape)[:height, :width]
        return replace(TileShares.of(shares[:height, :width]), near=near)


def label_strips(
    extractor: Extractor,
    reader: ImageReader,
    search: Search,
    transfer: TransferSettings,
    prior: npt.NDArray[np.float32] | None = None,
    *,
    least: float | None = None,
    watched: Sequence[int] = (),
    progress: Progress | None = None,
) -> Generator[Strip, None, None]:
    """The classes of a photo, a strip of rows at a time from the top; ``progress`` hears of its tiles.

    ``prior`` is as for :func:`segmentation.labelling.label_views`, whose classes these are, without refined
    edges; pixels less similar to the memory than ``least`` are left blank, and ``watched`` are class columns
    whose largest shares are wanted. Raises ImageError for pixels that
    cannot be read.
    """
    grid = grid_of(extractor, reader.shape)
    grids = [grid] if isinstance(grid, PatchGrid) else grid.grids()
    with track(progress, "tiles", len(grids)) as task:
        labels = _Labels(search, transfer, prior)
        tiles = _tiles(extractor, reader, labels, grids, task)
        with closing(tiles):
            if isinstance(grid, PatchGrid):
                classes, unknown, forget = _single(grid, tiles, transfer, watched)
            else:
                classes, unknown, forget = _blended(grid, tiles, transfer, watched)
            for rows in strips_of(reader.shape):
                forget(rows.start)
                columns, confidence, peaks = classes(rows)
                if least is not None:
                    columns = np.where(unknown(least, rows), UNLABELLED, columns)
                yield Strip(rows, columns, confidence, peaks)


def grid_of(extractor: Extractor, shape: tuple[int, int]) -> PatchGrid | TiledGrid:
    """The grid of the patches of a photo (H0, W0)."""
    image = extractor.recipe.image
    if image.scale is None:
        geometry = make_geometry(shape, image.fixed_size, fit=image.fit)
        return PatchGrid(geometry, extractor.patch_size, image.shifts)
    return lay_grid(tiling_of(shape, image), extractor.patch_size, image.shifts)


def strips_of(shape: tuple[int, int]) -> Iterator[slice]:
    """The rows of each strip of a photo (H0, W0)."""
    height, width = shape
    step = STRIP // width // BLOCK * BLOCK or max(FEWEST_ROWS, min(BLOCK, 2 * STRIP // width))
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def _tiles(
    extractor: Extractor,
    reader: ImageReader,
    labels: _Labels,
    grids: list[PatchGrid],
    task: Task,
) -> Generator[TileShares, None, None]:
    """The shares of each tile, in order; the next ones are read meanwhile."""
    flip = extractor.recipe.image.flip

    def prepared() -> Generator[tuple[list[PatchGrid], torch.Tensor], None, None]:
        coming = iter(grids)
        while batch := list(islice(coming, extractor.recipe.runtime.batch_size)):
            yield batch, torch.stack([extractor.prepare(*see(reader, grid.geometry))[0] for grid in batch])

    with closing(ahead(prepared())) as batches:
        for batch, pixels in batches:
            described = extract_passes(extractor, pixels, batch, flip=flip).numpy()  # (n, M, T, D)
            for grid, views in zip(batch, described, strict=True):
                yield labels.of_tile(views, grid)
                task.advance()


Classes = Callable[[slice], Winners]
Unknown = Callable[[float, slice], npt.NDArray[np.bool_]]
Forget = Callable[[int], None]


def _single(
    grid: PatchGrid, tiles: Iterator[TileShares], transfer: TransferSettings, watched: Sequence[int]
) -> tuple[Classes, Unknown, Forget]:
    tile = next(tiles)
    pixels = PixelShares(tile.shares, grid, transfer, None, tile.near)
    next(tiles, None)  # which tells the progress
    return (lambda rows: pixels.winners_of(rows, watched)), pixels.unknown, (lambda row: None)


def _blended(
    grid: TiledGrid, tiles: Iterator[TileShares], transfer: TransferSettings, watched: Sequence[int]
) -> tuple[Classes, Unknown, Forget]:
    """What gives the classes of rows and their unknown pixels, and what lets go of tiles above a row."""
    rows, cols = (grid.geometry.input_places(axis) for axis in (0, 1))
    ends = [span.part.stop for span in grid.spans(0, rows)]
    held: dict[int, list[TileShares]] = {}
    known = iter(range(len(ends)))

    def tile(row: int, col: int) -> TileShares:
        while row not in held:
            held[next(known)] = list(islice(tiles, grid.tiling.counts[1]))
        return held[row][col]

    def forget(first: int) -> None:
        for row in [row for row in held if ends[row] <= first]:
            held[row] = []  # known, and asked for no more

    def nearness(row: int, col: int) -> TileShares:
        near = tile(row, col).near
        assert near is not None
        return TileShares.of(near[:, :, None])

    blend, near = Blend(grid, rows, cols, tile), Blend(grid, rows, cols, nearness)
    return partial(blend.classes, tau=transfer.calibration, watched=watched), partial(below, near), forget
