"""Masks as lengths of runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segmentation.export.regions import Bits, Region


def run_lengths(places: npt.NDArray[np.int64], size: int) -> list[int]:
    """Lengths of the runs of 0, 1, 0, ... in ``size`` bits of which those at ``places`` (ascending) are 1.

    The first run, of 0, may have length 0; none of the others has.
    """
    if not len(places):
        return [size]
    breaks = np.flatnonzero(np.diff(places) > 1)
    starts = places[np.concatenate([[0], breaks + 1])]
    ends = places[np.concatenate([breaks, [len(places) - 1]])] + 1
    bounds = np.stack([starts, ends], axis=1).ravel()
    lengths: list[int] = np.diff(np.concatenate([[0], bounds, [size]])).tolist()
    return lengths if lengths[-1] else lengths[:-1]


def row_runs(pixels: Bits) -> list[int]:
    """The runs of a mask (h, w) row by row."""
    return run_lengths(np.flatnonzero(pixels), pixels.size)


def photo_rows(regions: Sequence[Region], shape: tuple[int, int]) -> list[int]:
    """The runs of all the regions together, row by row of the photo of ``shape`` (H, W)."""
    places = [_rows(region) * shape[1] + _cols(region) for region in regions]
    return run_lengths(np.sort(np.concatenate(places)), shape[0] * shape[1])


def photo_columns(region: Region, shape: tuple[int, int]) -> list[int]:
    """The runs of a region column by column of the photo of ``shape`` (H, W), as COCO counts them."""
    return run_lengths(np.sort(_cols(region) * shape[0] + _rows(region)), shape[0] * shape[1])


def _rows(region: Region) -> npt.NDArray[np.int64]:
    return np.nonzero(region.pixels)[0] + region.top


def _cols(region: Region) -> npt.NDArray[np.int64]:
    return np.nonzero(region.pixels)[1] + region.left
