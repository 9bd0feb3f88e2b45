"""From the neighbours of a photo's patches to the class of each of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.images import Geometry
from retrieval.neighbors import Neighbors
from segmentation.transfer import blend_labels, vote_shares
from segmentation.upsample import classes_at


@dataclass(frozen=True, eq=False)
class Labelling:
    """What the neighbours of a photo's patches say, patch by patch and pixel by pixel."""

    vote_shares: npt.NDArray[np.float32]
    """(h * w, K) share of each neighbour in its patch's vote."""
    shares: npt.NDArray[np.float32]
    """(h, w, C) label distribution of each patch."""
    columns: npt.NDArray[np.int32]
    """(H, W) class columns of the pixels."""
    confidence: npt.NDArray[np.float32]
    """(H, W) in 0..1: the winning class's share of the interpolated label distribution."""


def label_pixels(
    neighbors: Neighbors,
    geometry: Geometry,
    patch_size: tuple[int, int],
    *,
    temperature: float,
    every: slice = slice(None),
) -> Labelling:
    """Label transfer and the way back to pixels.

    ``neighbors`` are those of all patches, row-major; ``every`` chooses rows and columns of pixels, where
    not all are wanted. Raises ConfigError for a temperature that is not positive.
    """
    grid = [size // patch for size, patch in zip(geometry.size, patch_size, strict=True)]
    votes = vote_shares(neighbors, temperature=temperature)
    shares = blend_labels(neighbors.labels, votes).reshape(*grid, -1)  # (h, w, C)
    rows, cols = (places[every] for places in geometry.grid_coordinates(patch_size))
    return Labelling(votes, shares, *classes_within(shares, geometry, patch_size, rows, cols))


def classes_within(
    shares: npt.NDArray[np.float32],
    geometry: Geometry,
    patch_size: tuple[int, int],
    rows: npt.NDArray[np.floating],
    cols: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """:func:`classes_at` of the patches (h, w, C) that see some of the photo: padding must not mix in."""
    height, width = geometry.content_grid(patch_size)
    return classes_at(shares[:height, :width], rows, cols)
