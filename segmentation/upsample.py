"""From class distributions on the patch grid to classes at pixels, in bounded memory."""

from __future__ import annotations

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

    Interpolation is separable: all columns first, then a strip of rows at a time, so no more than
    about ``strip`` numbers exist at pixel resolution. Classes with no share anywhere cannot win
    and are left out. On a stretched image this equals
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` and argmax.
    """
    height, width = len(rows), len(cols)
    columns = np.zeros((height, width), dtype=np.int32)
    confidence = np.zeros((height, width), dtype=np.float32)
    present = np.flatnonzero(shares.any(axis=(0, 1)))
    if present.size == 0:
        return columns, confidence
    grid = torch.from_numpy(np.ascontiguousarray(shares[:, :, present].transpose(2, 0, 1)))  # (P, h, w)
    left, right, across = _taps(cols, grid.shape[2])
    wide = torch.lerp(grid[:, :, left], grid[:, :, right], across)  # (P, h, W)
    upper, lower, down = _taps(rows, grid.shape[1])
    step = max(1, strip // max(1, wide.shape[0] * width))
    for start in range(0, height, step):
        part = slice(start, start + step)
        pixels = torch.lerp(wide[:, upper[part]], wide[:, lower[part]], down[part, None])  # (P, r, W)
        best, winner = pixels.max(dim=0)
        columns[part] = present[winner.numpy()]
        confidence[part] = best.clamp_(0.0, 1.0).numpy()
    return columns, confidence


def _taps(at: npt.NDArray[np.floating], size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The two grid neighbours of each coordinate, and how far it lies towards the second."""
    clamped = np.clip(np.asarray(at, dtype=np.float64), 0, size - 1)
    first = np.floor(clamped).astype(np.int64)
    second = np.minimum(first + 1, size - 1)
    share = (clamped - first).astype(np.float32)
    return torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(share)
