"""Photos of any size: tiles are read, described and labelled as they are needed, strips of rows are given.

What is held at once are the shares of a few rows of tiles, and a strip of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from indexer.images import PatchGrid, make_geometry
from indexer.images.tiles import TiledGrid, lay_grid
from indexer.images.windows import ImageReader, see
from indexer.recipe import TransferSettings
from retrieval.neighbors import Neighbors
from retrieval.progress import Progress, Task, track
from segmentation.blend import Blend, TileShares
from segmentation.description import Extractor, tiling_of
from segmentation.labelling import classes_within, label_patches
from segmentation.passes import extract_passes
from segmentation.pipeline import ahead
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
    """(r, W) class columns."""
    confidence: npt.NDArray[np.float32]
    """(r, W) in 0..1: the winning class's share."""


#: Neighbours of vectors (T, D).
Search = Callable[[npt.NDArray[np.float32]], Neighbors]


def label_strips(
    extractor: Extractor,
    reader: ImageReader,
    search: Search,
    transfer: TransferSettings,
    *,
    progress: Progress | None = None,
) -> Generator[Strip, None, None]:
    """The classes of a photo, a strip of rows at a time from the top; ``progress`` hears of its tiles.

    The classes are those of :func:`segmentation.labelling.label_views` without refined edges. Raises
    ImageError for pixels that cannot be read.
    """
    grid = grid_of(extractor, reader.shape)
    grids = [grid] if isinstance(grid, PatchGrid) else grid.grids()
    with track(progress, "tiles", len(grids)) as task:
        tiles = _tiles(extractor, reader, search, transfer, grids, task)
        with closing(tiles):
            classes, forget = _single(grid, tiles) if isinstance(grid, PatchGrid) else _blended(grid, tiles)
            for rows in strips_of(reader.shape):
                forget(rows.start)
                yield Strip(rows, *classes(rows))


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
    search: Search,
    transfer: TransferSettings,
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
            described = extract_passes(extractor, pixels, batch).numpy()  # (n, M, T, D)
            for grid, views in zip(batch, described, strict=True):
                found = [search(views[number]) for number in range(1 + flip)]
                shares = label_patches(found, grid, transfer)[2]
                yield TileShares.of(shares[: grid.seen[0], : grid.seen[1]])
                task.advance()


Classes = Callable[[slice], tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]
Forget = Callable[[int], None]


def _single(grid: PatchGrid, tiles: Iterator[TileShares]) -> tuple[Classes, Forget]:
    shares = next(tiles).shares
    next(tiles, None)  # which tells the progress
    rows, cols = grid.coordinates()
    return (lambda part: classes_within(shares, grid, rows[part], cols)), (lambda row: None)


def _blended(grid: TiledGrid, tiles: Iterator[TileShares]) -> tuple[Classes, Forget]:
    """What gives the classes of rows, and what lets go of tiles that end above a row."""
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

    return Blend(grid, rows, cols, tile).classes, forget
