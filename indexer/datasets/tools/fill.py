"""Outlines and run lengths as pixels, each in the smallest window of the image that holds it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: An outline of more corners stands for an ellipse.
_ELLIPSE_CORNERS = 128


@dataclass(frozen=True)
class Patch:
    """Pixels that a shape has: ``inside`` (h, w) bool, its upper left pixel at (``top``, ``left``)."""

    top: int
    left: int
    inside: npt.NDArray[np.bool_]


def fill_polygon(points: npt.NDArray[np.float64], size: tuple[int, int]) -> Patch:
    """The pixels whose centres lie inside a closed outline, by the even-odd rule.

    ``points`` (N, 2) are (x, y) in pixels, pixel (row 0, col 0) covering 0..1 of both, so that its centre is
    (0.5, 0.5); ``size`` is (height, width) of the image. What lies outside the image is cut off.
    """
    lower, upper = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    left, top = (int(v) for v in np.clip(lower, 0, size[::-1]))
    right, bottom = (int(v) for v in np.clip(upper, (left, top), size[::-1]))
    height, width = bottom - top, right - left
    x, y = (points - (left, top)).T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    # An edge crosses the rows whose centres lie in the half-open span between its ends.
    first = np.clip(np.ceil(np.minimum(y, to_y) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y, to_y) - 0.5), 0, height).astype(np.int64)
    counts = last - first
    edge = np.repeat(np.arange(len(points)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    run, rise = (to_x - x)[edge], (to_y - y)[edge]
    cross = x[edge] + (row + 0.5 - y[edge]) * run / rise
    turns = np.zeros((height, width + 1), dtype=np.int32)
    np.add.at(turns, (row, np.clip(np.ceil(cross - 0.5), 0, width).astype(np.int64)), 1)
    return Patch(top, left, np.cumsum(turns, axis=1)[:, :-1] % 2 == 1)


def box_corners(
    left: float, top: float, width: float, height: float, rotation: float = 0.0
) -> npt.NDArray[np.float64]:
    """The corners (4, 2) as (x, y) of a box that is turned clockwise around its centre, in degrees."""
    right, bottom = left + width, top + height
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)
    return turned(corners, (left + width / 2, top + height / 2), rotation)


def ellipse_corners(
    x: float, y: float, across: float, down: float, rotation: float = 0.0
) -> npt.NDArray[np.float64]:
    """A fine outline (N, 2) as (x, y) of an ellipse around (x, y) with the given radii, turned clockwise."""
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    outline = np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)
    return turned(outline, (x, y), rotation)


def turned(
    points: npt.NDArray[np.float64], centre: tuple[float, float], degrees: float
) -> npt.NDArray[np.float64]:
    """Points (N, 2) as (x, y) turned around a centre, clockwise as the image is seen (y points down)."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    rotated: npt.NDArray[np.float64] = (points - centre) @ np.array([(cosine, sine), (-sine, cosine)])
    return rotated + centre


def fill_runs(counts: list[int], size: tuple[int, int], *, by_column: bool = False) -> npt.NDArray[np.bool_]:
    """Run lengths, of pixels outside first, as (H, W) bool; rows after one another, or columns.

    Raises ValueError where they do not add up to the size (height, width).
    """
    height, width = size
    if any(type(count) is not int or count < 0 for count in counts) or sum(counts) != height * width:
        raise ValueError(
            f"its run lengths must be whole numbers that add up to {height} x {width} pixels (height x width)"
        )
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T if by_column else flat.reshape(height, width)
