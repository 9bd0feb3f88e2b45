"""From the neighbours of a photo's patches to the class of each of its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.images import Geometry, PatchGrid
from indexer.images.tiles import TiledGrid
from indexer.recipe import TransferSettings
from retrieval.neighbors import Neighbors
from segmentation.blend import blend_of
from segmentation.pixels import PixelShares
from segmentation.prior import reweighted
from segmentation.transfer import blend_labels, vote_shares
from segmentation.unknown import nearness_of
from segmentation.upsample import classes_at

Shares = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Labelling:
    """What the neighbours of a photo's patches say, patch by patch and pixel by pixel."""

    vote_shares: Shares
    """(h * w, K) share of each neighbour in its patch's vote."""
    shares: Shares
    """(h, w, C) label distribution of each patch."""
    columns: npt.NDArray[np.int32]
    """(H, W) class columns of the pixels."""
    confidence: npt.NDArray[np.float32]
    """(H, W) in 0..1: the winning class's share of the distribution there, perhaps refined and calibrated."""


def label_pixels(
    neighbors: Neighbors,
    geometry: Geometry,
    patch_size: tuple[int, int],
    *,
    temperature: float,
    every: slice = slice(None),
) -> Labelling:
    """Label transfer and the way back to pixels, of one pass of a photo.

    ``neighbors`` are those of all patches, row-major; ``every`` chooses rows and columns of pixels, where
    not all are wanted. Raises ConfigError for a temperature that is not positive.
    """
    grid = PatchGrid(geometry, patch_size)
    votes = vote_shares(neighbors, temperature=temperature)
    shares = grid_shares(neighbors, votes, grid)
    rows, cols = (places[every] for places in grid.coordinates())
    return Labelling(votes, shares, *classes_within(shares, grid, rows, cols))


def label_views(
    found: Sequence[Neighbors],
    grid: PatchGrid | TiledGrid,
    transfer: TransferSettings,
    photo: npt.NDArray[np.uint8] | None,
    prior: Shares | None = None,
) -> tuple[Neighbors, Labelling, PixelShares]:
    """The labels of a photo whose patches have neighbours ``found`` in each view: all of them, and the masks.

    ``photo`` (H, W, 3) uint8 RGB is needed where ``transfer.refine`` is not none; ``prior`` (C,) is what
    :func:`segmentation.prior.prior_ratio` gives.
    """
    neighbors, votes, shares = label_patches(found, grid, transfer, prior)
    near = nearness_of(found, grid.shape)
    pixels = PixelShares(shares, grid, transfer, None if transfer.refine == "none" else photo, near)
    winners = pixels.winners()
    return neighbors, Labelling(votes, shares, winners.columns, winners.confidence), pixels


def label_patches(
    found: Sequence[Neighbors],
    grid: PatchGrid | TiledGrid,
    transfer: TransferSettings,
    prior: Shares | None = None,
) -> tuple[Neighbors, Shares, Shares]:
    """Label transfer up to the patches: all neighbours, their votes, and each patch's distribution.

    ``prior`` as for :func:`label_views`; the votes are those without it.
    """
    neighbors, votes = pooled(found, [vote_shares(each, temperature=transfer.temperature) for each in found])
    shares = grid_shares(neighbors, votes, grid)
    return neighbors, votes, shares if prior is None else reweighted(shares, prior)


def pooled(found: Sequence[Neighbors], votes: Sequence[Shares]) -> tuple[Neighbors, Shares]:
    """The neighbours of several views of the same patches side by side, each view with its part of the vote.

    The blended label is then the mean of the views' labels.
    """
    if len(found) == 1:
        return found[0], votes[0]
    counts = [each.multiplicity for each in found if each.multiplicity is not None]
    together = Neighbors(
        np.concatenate([each.ids for each in found], axis=1),
        np.concatenate([each.similarities for each in found], axis=1),
        np.concatenate([each.labels for each in found], axis=1),
        np.concatenate(counts, axis=1) if counts else None,
    )
    return together, np.concatenate(votes, axis=1) / np.float32(len(votes))


def grid_shares(neighbors: Neighbors, votes: Shares, grid: PatchGrid | TiledGrid) -> Shares:
    """The label distribution of each patch, (h, w, C)."""
    return blend_labels(neighbors.labels, votes).reshape(*grid.shape, -1)


def input_classes(shares: Shares, grid: PatchGrid | TiledGrid) -> npt.NDArray[np.int32]:
    """Class columns (H, W) int32 of the pixels of the model's input (the scaled photo), padding included."""
    size, content = grid.geometry.size, grid.geometry.content
    places = [np.arange(extent) + 0.5 for extent in size]
    if isinstance(grid, PatchGrid):
        rows, cols = (grid.at_input(axis, each) for axis, each in enumerate(places))
        return classes_within(shares, grid, rows, cols)[0]
    rows, cols = (np.minimum(each, last - 0.5) for each, last in zip(places, content, strict=True))
    return blend_of(shares, grid, rows, cols).classes(slice(None)).columns


def classes_within(
    shares: Shares, grid: PatchGrid, rows: npt.NDArray[np.floating], cols: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """:func:`classes_at` of the patches (h, w, C) that see some of the photo: padding must not mix in."""
    height, width = grid.seen
    return classes_at(shares[:height, :width], rows, cols)
