"""The class shares of a photo's pixels, a strip of rows at a time, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from indexer.images import PatchGrid
from indexer.recipe import TransferSettings
from segmentation.refine import refined_classes, refined_strips
from segmentation.upsample import STRIP, classes_at, interpolated

Floats = npt.NDArray[np.floating]

#: Smallest share that calibration knows: without it a share of 1 would stay 1 at any temperature.
FLOOR = 1e-4


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of pixels, and the shares there of the classes that a photo's patches have."""

    rows: slice
    values: npt.NDArray[np.float32]
    """(P, r, W) in 0..1."""
    present: npt.NDArray[np.intp]
    """(P,) rising class columns; all others have no share."""


@dataclass(frozen=True, eq=False)
class PixelShares:
    """The label distributions of a photo's patches, and how its pixels' follow from them."""

    shares: npt.NDArray[np.float32]
    """(h, w, C) of the patches."""
    grid: PatchGrid
    transfer: TransferSettings
    photo: npt.NDArray[np.uint8] | None
    """(H, W, 3) RGB where masks follow the photo's edges, else None."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo."""
        return self.grid.geometry.source

    def winners(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """The winning class column (H, W) int32 of each pixel, and its share (H, W) float32, calibrated."""
        columns, confidence = self._winners()
        if self.transfer.calibration is not None:
            for strip in self.strips():
                best = strip.values.max(axis=0, initial=0)
                confidence[strip.rows] = self._calibrated(best, strip.values)
        return columns, confidence

    def of_class(self, column: int) -> npt.NDArray[np.float32]:
        """One class's share of each pixel, calibrated as confidence is: (H, W) float32 in 0..1."""
        plane = np.zeros(self.size, dtype=np.float32)
        for strip in self.strips():
            found = np.flatnonzero(strip.present == column)
            own = strip.values[found[0]] if found.size else np.zeros(strip.values.shape[1:], np.float32)
            calibrate = self.transfer.calibration is not None
            plane[strip.rows] = self._calibrated(own, strip.values) if calibrate else own
        return plane

    def strips(self, *, every: int = 1) -> Iterator[Strip]:
        """The shares of all pixels, or of every ``every``-th row and column, before calibration."""
        seen = self.shares[: self.grid.seen[0], : self.grid.seen[1]]
        present = np.flatnonzero(seen.any(axis=(0, 1)))
        pixels = self._refined(seen, present) if self.photo is not None else self._interpolated(seen, present)
        for rows, values in pixels:
            first = -rows.start % every  # the raster goes on from strip to strip
            kept = slice(rows.start + first, rows.stop, every)
            if kept.start < kept.stop:
                yield Strip(kept, values[:, first::every, ::every], present)

    def _winners(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        seen, transfer = self.grid.seen, self.transfer
        if self.photo is None:
            return classes_at(self.shares[: seen[0], : seen[1]], *self.grid.coordinates())
        return refined_classes(
            self.shares, self.grid, self.photo, radius=transfer.refine_radius, eps=transfer.refine_eps
        )

    def _interpolated(
        self, seen: npt.NDArray[np.float32], present: npt.NDArray[np.intp]
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        rows, cols = self.grid.coordinates()
        rows = np.clip(rows, 0, len(seen) - 1)
        height, width = self.size
        step = max(1, STRIP // max(1, len(present) * width))
        for start in range(0, height, step):
            part = slice(start, min(start + step, height))
            first, last = int(rows[part][0]), int(rows[part][-1]) + 2  # of the grid, in between
            near = seen[first:last, :, present]
            yield part, interpolated(near, rows[part] - first, cols)

    def _refined(
        self, seen: npt.NDArray[np.float32], present: npt.NDArray[np.intp]
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        assert self.photo is not None
        transfer = self.transfer
        for rows, values in refined_strips(
            seen[:, :, present],
            self.grid,
            self.photo,
            radius=transfer.refine_radius,
            eps=transfer.refine_eps,
        ):
            yield rows, np.clip(values, 0, 1, out=values)

    def _calibrated(self, share: Floats, values: Floats) -> npt.NDArray[np.float32]:
        tau = self.transfer.calibration
        assert tau is not None
        total = normaliser(values, tau, self.shares.shape[2])
        known = values.any(axis=0)  # a pixel without neighbours has no confidence
        return np.where(known, power(share, tau) / total, 0).astype(np.float32)


def power(share: Floats, tau: float) -> Floats:
    """``max(share, FLOOR) ** (1 / tau)``: a class's term before normalisation."""
    values = torch.from_numpy(np.ascontiguousarray(share))  # several times as fast as numpy's power
    result: Floats = values.clamp(min=FLOOR).pow_(1 / tau).numpy()
    return result


def normaliser(values: Floats, tau: float, classes: int) -> Floats:
    """The sum of all classes' terms: shares (P, ...) of the present ones -> (...)."""
    total: Floats = power(values, tau).sum(axis=0) + (classes - len(values)) * FLOOR ** (1 / tau)
    return total
