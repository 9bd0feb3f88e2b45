"""From class distributions on the patch grid to classes at pixels, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

#: Interpolated shares held at a time, in numbers.
STRIP = 4_000_000


def classes_at(
    shares: npt.NDArray[np.float32],
    rows: npt.NDArray[np.floating],
    cols: npt.NDArray[np.floating],
    *,
    strip: int = STRIP,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The winning class and its share at each pixel, by bilinear interpolation of a grid.

    ``shares`` (h, w, C) are distributions at integer grid coordinates; ``rows`` (H,) and ``cols``
    (W,) are the pixels' fractional grid coordinates, clamped to the grid. Returns class columns
    (H, W) int32 and shares (H, W) float32 in 0..1; the first of equal classes wins.

    Interpolation is separable: between two rows of the grid, all columns first, then a strip of
    pixel rows at a time, so no more than about ``strip`` numbers exist at pixel resolution. Classes
    with no share in the two rows cannot win between them and are left out. On a stretched image
    this equals ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` and argmax.
    """
    height, width = len(rows), len(cols)
    columns = np.zeros((height, width), dtype=np.int32)
    confidence = np.zeros((height, width), dtype=np.float32)
    upper, lower, down = _taps(rows, shares.shape[0])
    left, right, across = _taps(cols, shares.shape[1])
    for band in _runs(upper):
        pair = shares[[int(upper[band.start]), int(lower[band.start])]]  # (2, w, C)
        present = np.flatnonzero(pair.any(axis=(0, 1)))
        if present.size == 0:
            continue
        grid = torch.from_numpy(np.ascontiguousarray(pair[:, :, present].transpose(2, 0, 1)))  # (P, 2, w)
        wide = torch.lerp(grid[:, :, left], grid[:, :, right], across)  # (P, 2, W)
        step = max(1, strip // max(1, present.size * width))
        for start in range(band.start, band.stop, step):
            part = slice(start, min(start + step, band.stop))
            pixels = torch.lerp(wide[:, :1], wide[:, 1:], down[part, None])  # (P, r, W)
            best, winner = pixels.max(dim=0)
            columns[part] = present[winner.numpy()]
            confidence[part] = best.clamp_(0.0, 1.0).numpy()
    return columns, confidence


def _runs(values: torch.Tensor) -> Iterator[slice]:
    """The stretches of equal neighbouring values."""
    edges = np.flatnonzero(np.diff(values.numpy())) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(values)]):
        yield slice(start, stop)


def interpolated(
    shares: npt.NDArray[np.float32], rows: npt.NDArray[np.floating], cols: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Each class of a grid (h, w, C) at fractional coordinates (H,) and (W,), clamped: (C, H, W) float32."""
    upper, lower, down = _taps(rows, shares.shape[0])
    left, right, across = _taps(cols, shares.shape[1])
    grid = torch.from_numpy(np.ascontiguousarray(shares.transpose(2, 0, 1)))  # (C, h, w)
    wide = torch.lerp(grid[:, :, left], grid[:, :, right], across)  # (C, h, W)
    return torch.lerp(wide[:, upper], wide[:, lower], down[:, None]).numpy()


def _taps(at: npt.NDArray[np.floating], size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    first, second, share = taps(at, size)
    return torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(share)


def taps(
    at: npt.NDArray[np.floating], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The two grid neighbours of each coordinate, and how far it lies towards the second."""
    clamped = np.clip(np.asarray(at, dtype=np.float64), 0, size - 1)
    first = np.floor(clamped).astype(np.int64)
    second = np.minimum(first + 1, size - 1)
    return first, second, (clamped - first).astype(np.float32)
