"""From the neighbours of an image's patches to its hits and unions per class, for many k and T."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.images import Geometry, PatchGrid
from indexer.recipe import TransferSettings
from retrieval.neighbors import Neighbors
from segmentation.labelling import classes_within, grid_shares
from segmentation.refine import refined_classes
from segmentation.scoring.metrics import confusion_matrix
from segmentation.transfer import vote_shares

#: Pixels of an image that are scored at most; of a larger one every n-th row and column is.
PIXELS = 250_000

#: Pixels per class that were found, and that are in truth or prediction: (..., C, 2) int64.
Tally = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scene:
    """What the neighbours of an image's patches are scored with."""

    truth: npt.NDArray[np.int32]
    """(H, W) class columns, -1 unlabelled, at the photo's own size."""
    grid: PatchGrid
    photo: npt.NDArray[np.uint8] | None = None
    """(H, W, 3) RGB, needed where masks are refined."""
    pixels: int = PIXELS
    """Scored at most."""

    def confusion(
        self, shares: npt.NDArray[np.float32], transfer: TransferSettings | None = None
    ) -> npt.NDArray[np.int64]:
        """The confusion matrix (C, C) of patches with these label distributions (h, w, C).

        Masks are refined as ``transfer`` says, not at all without it.
        """
        step = max(1, int(np.ceil((self.truth.size / self.pixels) ** 0.5)))
        every = slice(step // 2, None, step)
        if transfer is None or transfer.refine == "none" or self.photo is None:
            rows, cols = (places[every] for places in self.grid.coordinates())
            columns = classes_within(shares, self.grid, rows, cols)[0]
        else:
            radius, eps = transfer.refine_radius, transfer.refine_eps
            columns = refined_classes(shares, self.grid, self.photo, radius=radius, eps=eps)[0]
            columns = columns[every, every]
        return confusion_matrix(self.truth[every, every], columns, shares.shape[2])

    def shares(self, found: Neighbors, *, temperature: float) -> npt.NDArray[np.float32]:
        """The label distributions (h, w, C) of patches, row-major in the grid, that have these neighbours."""
        return grid_shares(found, vote_shares(found, temperature=temperature), self.grid)


def score_grid(
    found: Neighbors,
    truth: npt.NDArray[np.int32],
    geometry: Geometry,
    patch_size: tuple[int, int],
    settings: Iterable[tuple[int, float]],
) -> Tally:
    """The tally of one image for each (k, temperature), from its neighbours: (settings, C, 2) int64.

    ``found`` has the neighbours of all patches, row-major, at least as many as the largest k or all
    there are; ``truth`` (H, W) int32 class columns, -1 unlabelled, at the photo's own size.
    """
    tallies = [
        tally_of(confusion_of(found.first(k), truth, geometry, patch_size, temperature=temperature))
        for k, temperature in settings
    ]
    return np.stack(tallies)


def confusion_of(
    found: Neighbors,
    truth: npt.NDArray[np.int32],
    geometry: Geometry,
    patch_size: tuple[int, int],
    *,
    temperature: float,
) -> npt.NDArray[np.int64]:
    """The confusion matrix (C, C) of one image whose patches have these neighbours."""
    scene = Scene(truth, PatchGrid(geometry, patch_size), pixels=PIXELS)
    return scene.confusion(scene.shares(found, temperature=temperature))


def tally_of(confusion: npt.NDArray[np.int64]) -> Tally:
    """Hits and union of each class: (C, C) -> (C, 2)."""
    hits = np.diagonal(confusion)
    return np.stack([hits, confusion.sum(axis=0) + confusion.sum(axis=1) - hits], axis=1)


def miou_of(tally: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean IoU in 0..1 over the classes that occur: (..., C, 2) -> (...); NaN where none does."""
    present = tally[..., 1] > 0
    iou = np.divide(tally[..., 0], tally[..., 1], out=np.zeros(present.shape), where=present)
    count = present.sum(axis=-1)
    result = np.full(count.shape, np.nan)
    np.divide(iou.sum(axis=-1), count, out=result, where=count > 0)
    return result


def add_up(tallies: Sequence[Tally], units: npt.NDArray[np.int64]) -> Tally:
    """Tallies of images (settings, C, 2) added up over the units (groups) that they are in.

    ``units`` (images,) int64 in 0..U-1 -> (settings, U, C, 2).
    """
    total = np.zeros((len(tallies[0]), int(units.max()) + 1, *tallies[0].shape[1:]), dtype=np.int64)
    for tally, unit in zip(tallies, units, strict=True):
        total[:, unit] += tally
    return total
