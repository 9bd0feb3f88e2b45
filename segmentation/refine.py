"""Masks whose edges follow the photo's: class shares through a guided filter with the photo as guide.

Source: *Guided Image Filtering* (He, Sun, Tang; ECCV 2010, PAMI 2013), the form for colour guides;
computed on a reduced photo and applied to the whole one as in *Fast Guided Filter* (He, Sun; 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from indexer.images import PatchGrid
from indexer.images.grid import Places
from indexer.images.tiles import TiledGrid
from segmentation.blend import blend_of
from segmentation.upsample import STRIP, interpolated, taps

#: (H, W)
Plane = npt.NDArray[np.float32]

#: Radius in reduced pixels to which the photo is reduced at most: the source's r / s = 4.
REDUCED_RADIUS = 4
#: Classes whose coefficients are held at a time.
GROUP = 16


def refined_classes(
    shares: npt.NDArray[np.float32],
    grid: PatchGrid | TiledGrid,
    photo: npt.NDArray[np.uint8],
    *,
    radius: int,
    eps: float,
    strip: int = STRIP,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The winning class and its refined share at each pixel of a photo.

    ``shares`` (h, w, C) are the label distributions of the grid's patches, ``photo`` (H, W, 3) uint8 RGB.
    ``radius`` of the windows is in pixels of the model's input, so that a photo and its enlargement get the
    same mask; ``eps`` is the variance, of colours in 0..1, below which a window counts as smooth. Returns
    class columns (H, W) int32 and shares (H, W) float32 in 0..1; the first of equal classes wins.

    The shares are interpolated at the model's input reduced by s = radius // 4, where the filter's linear
    coefficients are found; those are interpolated to the photo and applied to its own pixels, a strip of rows
    at a time, with no more than about ``strip`` numbers of a kind.
    """
    window, places = _reduced(grid, photo, radius=radius, eps=eps)
    planes_of = _planes(shares, grid, *places)
    columns = np.zeros(photo.shape[:2], dtype=np.int32)
    confidence = np.zeros(photo.shape[:2], dtype=np.float32)
    present = np.flatnonzero(shares.any(axis=(0, 1)))
    for start in range(0, len(present), GROUP):
        group = present[start : start + GROUP]
        coefficients = [window.coefficients(plane) for plane in planes_of(group)]
        for rows, colors, weights in _strips(photo, len(places[0]), strip):
            for column, planes in zip(group, coefficients, strict=True):
                value = _applied(planes, colors, weights)
                better = value > confidence[rows]
                np.copyto(columns[rows], column, where=better)
                np.maximum(value, confidence[rows], out=confidence[rows])
    return columns, np.minimum(confidence, 1.0, out=confidence)


def refined_strips(
    shares: npt.NDArray[np.float32],
    grid: PatchGrid | TiledGrid,
    photo: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    *,
    radius: int,
    eps: float,
    strip: int = STRIP,
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Some classes' refined shares, some rows of pixels at a time: (rows, (P, r, W) float32, about 0..1).

    ``classes`` (P,) are their columns; else as :func:`refined_classes`. Every one's coefficients are held at
    once, at the reduced size.
    """
    window, places = _reduced(grid, photo, radius=radius, eps=eps)
    count = len(classes)
    coefficients = [window.coefficients(plane) for plane in _planes(shares, grid, *places)(classes)]
    for rows, colors, weights in _strips(photo, len(places[0]), max(1, strip // max(1, count))):
        values = np.empty((count, *colors[0].shape), dtype=np.float32)
        for plane, planes in zip(values, coefficients, strict=True):
            plane[:] = _applied(planes, colors, weights)
        yield rows, values


def _reduced(
    grid: PatchGrid | TiledGrid, photo: npt.NDArray[np.uint8], *, radius: int, eps: float
) -> tuple[Window, tuple[Places, Places]]:
    """The windows of the reduced photo, and its rows and columns in pixels of the model's input."""
    scale = max(1, radius // REDUCED_RADIUS)
    size = tuple(max(1, round(content / scale)) for content in grid.geometry.content)
    guide = _resized(photo, (size[0], size[1]))
    window = Window(guide.transpose(2, 0, 1), radius=max(1, round(radius / scale)), eps=eps)
    rows, cols = (
        (np.arange(count) + 0.5) * content / count
        for count, content in zip(size, grid.geometry.content, strict=True)
    )
    return window, (rows, cols)


def _planes(
    shares: npt.NDArray[np.float32], grid: PatchGrid | TiledGrid, rows: Places, cols: Places
) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]:
    """What gives the shares of some classes (P, h, w) at places of the model's input, in its pixels."""
    if isinstance(grid, TiledGrid):
        return blend_of(shares, grid, rows, cols).planes
    seen = shares[: grid.seen[0], : grid.seen[1]]
    places = grid.at_input(0, rows), grid.at_input(1, cols)
    return lambda group: interpolated(seen[:, :, group], *places)


class Window:
    """What the colours of a guide are like around each of its pixels: means and covariances."""

    def __init__(self, guide: Plane, *, radius: int, eps: float) -> None:
        """``guide`` (3, H, W) float32 in 0..1; windows reach ``radius`` pixels, mirrored at the borders."""
        self._colors = [np.ascontiguousarray(plane) for plane in guide]
        self._side = (2 * radius + 1, 2 * radius + 1)
        self._means = [self._mean(plane) for plane in self._colors]
        self._inverse = self._inverses(eps)

    def coefficients(self, values: Plane) -> tuple[Plane, Plane, Plane, Plane]:
        """Filter coefficients of one plane (H, W) float32: a for red, green and blue, and b, each (H, W).

        The filtered plane is ``a . I + b`` of a guide's colours I (equations 8 and 19 to 21 of the source).
        """
        mean = self._mean(values)
        covariances = [
            self._mean(color * values) - color_mean * mean
            for color, color_mean in zip(self._colors, self._means, strict=True)
        ]
        slopes = [_dot(row, covariances) for row in self._inverse]
        offset = mean - _dot(slopes, self._means)
        red, green, blue = (self._mean(slope) for slope in slopes)
        return red, green, blue, self._mean(offset)

    def _mean(self, plane: Plane) -> Plane:
        mean = np.empty_like(plane)
        cv2.blur(plane, self._side, dst=mean, borderType=cv2.BORDER_REFLECT)
        return mean

    def _inverses(self, eps: float) -> list[list[Plane]]:
        """(covariance + eps 1)^-1 of the colours at each pixel, 3 x 3 planes."""
        c = [
            [self._mean(a * b) - ma * mb for b, mb in zip(self._colors, self._means, strict=True)]
            for a, ma in zip(self._colors, self._means, strict=True)
        ]
        for channel in range(3):
            c[channel][channel] += eps
        # By cofactors: a symmetric matrix whose eigenvalues are eps at least.
        cofactors = [[_cofactor(c, row, col) for col in range(3)] for row in range(3)]
        determinant = _dot(c[0], cofactors[0])
        return [[plane / determinant for plane in row] for row in cofactors]


def _cofactor(c: list[list[Plane]], row: int, col: int) -> Plane:
    (r1, r2), (c1, c2) = ([(k + 1) % 3, (k + 2) % 3] for k in (row, col))
    return c[r1][c1] * c[r2][c2] - c[r1][c2] * c[r2][c1]


def _dot(left: list[Plane], right: list[Plane]) -> Plane:
    total = np.zeros_like(left[0])
    for a, b in zip(left, right, strict=True):
        cv2.accumulateProduct(a, b, total)
    return total


def _resized(photo: npt.NDArray[np.uint8], size: tuple[int, int]) -> Plane:
    """The photo (H, W, 3) uint8 at another size, float32 in 0..1: means where it shrinks, else bilinear."""
    shrinks = photo.shape[0] >= size[0] and photo.shape[1] >= size[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = np.empty((*size, 3), dtype=np.uint8)
    cv2.resize(np.ascontiguousarray(photo), (size[1], size[0]), dst=resized, interpolation=method)
    guide = resized.astype(np.float32)
    guide /= 255
    return guide


def _strips(
    photo: npt.NDArray[np.uint8], reduced: int, strip: int
) -> Iterator[tuple[slice, list[Plane], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Plane]]]:
    """Some rows of a photo, their three colours in 0..1, and where they lie between reduced rows."""
    height, width = photo.shape[:2]
    upper, lower, share = taps((np.arange(height) + 0.5) * reduced / height - 0.5, reduced)
    step = max(1, strip // (4 * width))
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        colors = np.multiply(photo[rows].transpose(2, 0, 1), np.float32(1 / 255), dtype=np.float32, order="C")
        yield rows, list(colors), (upper[rows], lower[rows], share[rows, None])


def _applied(
    planes: tuple[Plane, Plane, Plane, Plane],
    colors: list[Plane],
    rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Plane],
) -> Plane:
    """a . I + b at the pixels of a strip, from coefficients on the reduced photo."""
    upper, lower, share = rows
    height, width = colors[0].shape
    wide = np.empty((4, height, width), dtype=np.float32)
    for plane, out in zip(planes, wide, strict=True):
        tall = plane[upper] + share * (plane[lower] - plane[upper])
        cv2.resize(tall, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)  # along columns alone
    total: Plane = wide[3]
    for plane, color in zip(wide[:3], colors, strict=True):
        cv2.accumulateProduct(plane, color, total)
    return total
