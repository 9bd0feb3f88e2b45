"""Describing images for the memory bank at a scale: large ones tile by tile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from indexer.bank.describe import empty_part, join_parts, record_of, thumb_of, write_thumb
from indexer.bank.jobs import BankJob
from indexer.bank.parts import Part
from indexer.bank.reading import read_labelled
from indexer.bank.sampling import choose_patches, patch_labels, patches_per_image, soft_labels
from indexer.datasets import Dataset
from indexer.datasets.keys import SampleKeys
from indexer.features.fungi import FungiExtractor
from indexer.features.passes import extract_passes
from indexer.images import PatchGrid
from indexer.images.tiles import TiledGrid, lay_tiles
from indexer.images.windows import ArrayReader, see, within
from indexer.seeds import generator_for
from retrieval.errors import DataError
from retrieval.progress import Task


class VectorsOfTiles(Protocol):
    """What describes tiles: tensors (3, H, W) and their grids to vectors (tiles, T, D)."""

    def __call__(
        self, tiles: Sequence[torch.Tensor], grids: Sequence[PatchGrid], /
    ) -> npt.NDArray[np.float32]: ...


def describe_scaled(
    extractor: FungiExtractor,
    dataset: Dataset,
    jobs: Sequence[BankJob],
    thumbs: Path,
    *,
    total: int,
    skip_bad: bool,
    task: Task,
) -> Part:
    """Rows of jobs, as :func:`indexer.bank.describe.describe_jobs`, at the recipe's ``image.scale``.

    All tiles of an image share its limit of patches. A row's grid position counts the patches of all tiles
    (:class:`indexer.images.tiles.TiledGrid`).
    """
    found = [empty_part(extractor.similarity.width, len(dataset.classes))]
    skipped: dict[str, str] = {}
    sources: list[SampleKeys] = []
    for job in jobs:
        sources.append(job.sample.keys())
        try:
            image, columns = read_labelled(extractor.recipe, dataset, job.sample)
        except DataError as error:
            if not skip_bad:
                raise
            skipped[job.sample.id] = str(error)
            thumb_of(job, thumbs).unlink(missing_ok=True)
        else:
            found.append(_describe(extractor, dataset, job, sources[-1], image, columns, total))
            write_thumb(image, thumb_of(job, thumbs))
        task.advance()
    return join_parts(found, skipped, sources)


def _describe(
    extractor: FungiExtractor,
    dataset: Dataset,
    job: BankJob,
    keys: SampleKeys,
    image: npt.NDArray[np.uint8],
    columns: npt.NDArray[np.int32],
    total: int,
) -> Part:
    """The rows of one image (H0, W0, 3) and its labels (H0, W0)."""
    recipe, tokens = extractor.recipe, extractor.backbone.tokens
    shape = (image.shape[0], image.shape[1])
    grid = tiled_grid(extractor, shape, recipe.bank.shifts)
    counts = tile_labels(columns, grid, classes=len(dataset.classes))
    limit = patches_per_image(recipe.bank, images=total, tokens=tokens * len(grid.tiling.geometries()))
    kept = choose_patches(counts, limit, generator_for(recipe.seed, "patches", job.sample.id, job.epoch))
    places = tile_places(kept, grid)
    patches = np.column_stack([np.full(len(kept), job.number), places]).astype(np.int32)
    vectors = [empty_part(extractor.similarity.width, len(dataset.classes)).vectors]

    def vectors_of(tiles: Sequence[torch.Tensor], grids: Sequence[PatchGrid]) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = extract_passes(
            extractor, torch.stack(list(tiles)), grids, flip=False
        )[:, 0].numpy()
        return vectors

    vectors += [found.astype(np.float16) for _, found in by_tiles(extractor, image, grid, kept, vectors_of)]
    record = record_of(job, keys, shape, patches=len(kept))
    return Part(np.concatenate(vectors), soft_labels(counts[kept]), patches, [record], {}, [])


def tiled_grid(extractor: FungiExtractor, shape: tuple[int, int], shifts: int = 1) -> TiledGrid:
    """The patches of the tiles of a photo (H0, W0) at the recipe's ``image.scale``."""
    scale = extractor.recipe.image.scale
    assert scale is not None
    tiling = lay_tiles(shape, extractor.backbone.size, scale=scale)
    return TiledGrid(tiling, extractor.patch_size, shifts)


def tile_labels(columns: npt.NDArray[np.int32], grid: TiledGrid, *, classes: int) -> npt.NDArray[np.int64]:
    """How many mask pixels of each class every patch covers, tile after tile: (H0, W0) -> (tiles * T, C).

    T are the patches of a tile's grid, those of all shifts.
    """
    counts = []
    for geometry in grid.tiling.geometries():
        top, left = (math.floor(edge) for edge in geometry.box[:2])
        bottom, right = (math.ceil(edge) for edge in geometry.box[2:])
        part = within(geometry, (top, left, bottom, right))
        inside = columns[top:bottom, left:right]
        counts.append(patch_labels(inside, part, grid.patch_size, classes=classes, shifts=grid.shifts))
    return np.concatenate(counts)


def tile_places(patches: npt.NDArray[np.int64], grid: TiledGrid) -> npt.NDArray[np.int64]:
    """Rows and columns in the grid of all tiles, (n, 2), of patches that are counted tile after tile."""
    height, width = grid.tile.shape
    tiles, inner = np.divmod(patches, height * width)
    tile_rows, tile_cols = np.divmod(tiles, grid.tiling.counts[1])
    rows, cols = np.divmod(inner, width)
    return np.column_stack([tile_rows * height + rows, tile_cols * width + cols])


def by_tiles(
    extractor: FungiExtractor,
    image: npt.NDArray[np.uint8],
    grid: TiledGrid,
    kept: npt.NDArray[np.int64],
    vectors_of: VectorsOfTiles,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """The kept patches of each tile and their vectors (n, D), in order; tiles without one are not looked at.

    ``kept`` rises, and counts the patches tile after tile.
    """
    grids = grid.grids()
    height, width = grid.tile.shape
    patches, size = height * width, extractor.recipe.runtime.batch_size
    wanted = np.unique(kept // patches)
    for start in range(0, len(wanted), size):
        numbers = wanted[start : start + size]
        tiles = [grids[number] for number in numbers]
        seen = [extractor.prepare(*see(ArrayReader(image), tile.geometry))[0] for tile in tiles]
        for number, vectors in zip(numbers, vectors_of(seen, tiles), strict=True):
            rows = kept[kept // patches == number]
            yield rows, vectors[rows % patches]
