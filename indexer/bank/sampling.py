"""The memory bank: soft labels of patches, and which patches are kept.

Source: *Towards In-context Scene Understanding* (Balazevic et al., NeurIPS 2023), section 3, and its
open re-implementation ``open-hummingbird-eval``. Every random choice comes from a generator whose
seed is a function of (seed, image id, epoch), so it does not depend on the order of the images.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from indexer.datasets import Dataset, Sample
from indexer.datasets.subset import draw_samples
from indexer.images import Geometry, PatchGrid, make_geometry
from indexer.recipe import BankSettings, ImageSettings


def choose_images(dataset: Dataset, settings: BankSettings, *, seed: int) -> list[Sample]:
    """The images of the bank in the data set's order: all, or a random ``max_images`` (low-data protocol).

    Which ones depends on seed and ids alone, and a smaller choice is part of a larger one.
    """
    if settings.max_images is None:
        return list(dataset.samples)
    return draw_samples(dataset.samples, settings.max_images, seed=seed)


def patches_per_image(settings: BankSettings, *, images: int, tokens: int) -> int:
    """Patches that one image may give in one epoch, of all shifts together.

    M // (N * A), at least 1, at most all that it has: ``tokens`` of each pass of the model.
    """
    tokens *= settings.shifts**2
    if settings.max_patches is None:
        return tokens
    return min(max(settings.max_patches // (images * settings.epochs), 1), tokens)


def patch_labels(
    columns: npt.NDArray[np.int32],
    geometry: Geometry,
    patch_size: tuple[int, int],
    *,
    classes: int,
    shifts: int = 1,
) -> npt.NDArray[np.int64]:
    """How many mask pixels of each class every patch covers: (H0, W0) int32, -1 unlabelled -> (T, C) int64.

    The patches are those of the :class:`PatchGrid` of ``shifts``, row-major.
    Counted at the mask's own resolution: a pixel belongs to the patch that covers its centre, in each of
    several shifted passes. What a shift repeats of the last row or column counts once.
    """
    grid = PatchGrid(geometry, patch_size, shifts)
    rows, cols = (cells // shifts for cells in grid.shape)
    counts = np.empty((rows, shifts, cols, shifts, classes), dtype=np.int64)
    for (i, down), (j, right) in product(enumerate(grid.moves(0)), enumerate(grid.moves(1))):
        of_pass = _labels_of_pass(columns, geometry, patch_size, (down, right), classes)
        counts[:, i, :, j] = of_pass.reshape(rows, cols, classes)
    return counts.reshape(-1, classes)


def _labels_of_pass(
    columns: npt.NDArray[np.int32],
    geometry: Geometry,
    patch_size: tuple[int, int],
    moves: tuple[int, int],
    classes: int,
) -> npt.NDArray[np.int64]:
    rows, cols = geometry.patch_of_pixels(patch_size, moves=moves)
    height, width = geometry.size[0] // patch_size[0], geometry.size[1] // patch_size[1]
    patch = rows[:, None] * width + cols[None, :]
    counted = (rows[:, None] >= 0) & (cols[None, :] >= 0) & (columns >= 0)
    cells = patch[counted].astype(np.int64) * classes + columns[counted]
    return np.bincount(cells, minlength=height * width * classes).reshape(height * width, classes)


def soft_labels(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Class histograms as bytes: (n, C) pixel counts -> (n, C) uint8, share times 255, 0 without a label."""
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares: npt.NDArray[np.float64] = np.rint(counts * (255.0 / totals))
    return shares.astype(np.uint8)


def choose_patches(
    counts: npt.NDArray[np.int64], limit: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The patches that an image gives to the bank, rare classes first: (T, C) counts -> sorted indices (n,).

    A patch's score is the sum, over the classes in it, of the number of patches of this image that
    hold the class, times a uniform random number; the ``limit`` smallest are kept. Patches without a
    labelled pixel are never kept.
    """
    present = counts > 0
    labelled = np.flatnonzero(present.any(axis=1))
    frequency = present.sum(axis=0)
    scores = (present[labelled] @ frequency) * generator.random(len(labelled))
    kept = labelled[np.argsort(scores, kind="stable")[:limit]]
    return np.sort(kept)


def plain_geometry(shape: tuple[int, int], settings: ImageSettings) -> Geometry:
    """The whole image (H0, W0) fitted to the model's size."""
    return make_geometry(shape, settings.fixed_size, fit=settings.fit)
