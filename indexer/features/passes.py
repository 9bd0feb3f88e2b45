"""The passes of an image through the model: shifted by parts of a patch, and mirrored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import Protocol

import torch

from indexer.images import PatchGrid
from indexer.images.tiles import TiledGrid
from indexer.recipe import Recipe


class SeesPatches(Protocol):
    """What gives the vectors of patches."""

    @property
    def recipe(self) -> Recipe:
        """The recipe in force."""

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors (B, T, D) float32 on the CPU of images (B, 3, H, W)."""


def extract_passes(
    extractor: SeesPatches, photos: torch.Tensor, grids: Sequence[PatchGrid], *, flip: bool
) -> torch.Tensor:
    """The vectors of photos (B, 3, H, W) in their grids: (B, M, T, D) float32 on the CPU.

    M is 2 with ``flip``, else 1; T are all patches of the grid, row-major, those of the mirror image in the
    same places. The model sees ``runtime.batch_size`` passes at once. Interleaved shifted passes are the
    "shift-and-stitch" of Long, Shelhamer and Darrell (CVPR 2015), section 3.2.
    """
    shifts = grids[0].shifts
    size, parts = extractor.recipe.runtime.batch_size, []
    if shifts == 1 and not flip:
        return torch.cat([extractor.extract(part) for part in torch.split(photos, size)])[:, None]
    seen = (view for photo, grid in zip(photos, grids, strict=True) for view in _views(photo, grid, flip))
    while batch := list(islice(seen, size)):
        parts.append(extractor.extract(torch.stack(batch)))
    rows, cols = (cells // shifts for cells in grids[0].shape)
    vectors = torch.cat(parts).view(len(photos), 1 + flip, shifts, shifts, rows, cols, -1)
    if flip:
        vectors = torch.stack([vectors[:, 0], vectors[:, 1].flip(-2)], dim=1)
    interleaved = vectors.permute(0, 1, 4, 2, 5, 3, 6)  # (B, M, h, n, w, n, D)
    return interleaved.reshape(len(photos), 1 + flip, rows * cols * shifts**2, -1)


def extract_photos(
    extractor: SeesPatches, photos: Sequence[torch.Tensor], grids: Sequence[PatchGrid | TiledGrid]
) -> list[torch.Tensor]:
    """:func:`extract_passes` of photos seen in one or several tiles, (n, 3, H, W) each: (M, T, D) each.

    M is 2 with ``image.flip``: they are photos to segment. T are all patches of all tiles of the photo's
    grid, row-major.
    """
    tiles = [tile for grid in grids for tile in ([grid] if isinstance(grid, PatchGrid) else grid.grids())]
    vectors = extract_passes(extractor, torch.cat(list(photos)), tiles, flip=extractor.recipe.image.flip)
    parts = torch.split(vectors, [len(photo) for photo in photos])
    return [_assembled(part, grid) for part, grid in zip(parts, grids, strict=True)]


def _assembled(vectors: torch.Tensor, grid: PatchGrid | TiledGrid) -> torch.Tensor:
    """The vectors of a photo's tiles (n, M, T, D) in the order of its grid: (M, n * T, D)."""
    if isinstance(grid, PatchGrid):
        return vectors[0]
    (rows, cols), (height, width) = grid.tiling.counts, grid.tile.shape
    views = vectors.shape[1]
    ordered = vectors.view(rows, cols, views, height, width, -1).permute(2, 0, 3, 1, 4, 5)
    return ordered.reshape(views, rows * height * cols * width, -1)


def _views(photo: torch.Tensor, grid: PatchGrid, flip: bool) -> Iterator[torch.Tensor]:
    """A photo (3, H, W) as each pass sees it: each move down with all moves to the right; then mirrored."""
    rows, cols = ([torch.from_numpy(grid.moved(axis, move)) for move in grid.moves(axis)] for axis in (0, 1))
    for mirrored in range(1 + flip):
        for down, right in product(rows, cols):
            view = photo[:, down][:, :, right]
            yield view.flip(-1) if mirrored else view
