"""Photos of which a part is read at a time, so that one need not fit into memory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from indexer.images.geometry import Geometry

#: (top, left, bottom, right), whole source pixels.
Window = tuple[int, int, int, int]

#: Pixels around a box that the widest filter of a resize (Lanczos) sees, for each pixel that it makes.
_REACH = 3
#: Photo pixels per pixel of the model's input, along each axis, that are kept where far more are there.
_KEPT = 4


class ImageReader(Protocol):
    """A photo whose pixels are read where they are wanted."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H0, W0), pixels."""

    def read(self, window: Window, reduced: int = 1) -> npt.NDArray[np.uint8]:
        """The pixels of a window as RGB, (height, width, 3) uint8, or fewer of them.

        It may be ``reduced`` by up to that factor, rounded up to whole pixels, each the mean of those it
        stands for. Raises ImageError for pixels that cannot be read.
        """


class ArrayReader:
    """A photo that is in memory: (H0, W0, 3) uint8 RGB."""

    def __init__(self, image: npt.NDArray[np.uint8]) -> None:
        self._image = image

    @property
    def shape(self) -> tuple[int, int]:
        """(H0, W0), pixels."""
        return self._image.shape[0], self._image.shape[1]

    def read(self, window: Window, reduced: int = 1) -> npt.NDArray[np.uint8]:
        """The pixels of a window, never reduced; a view."""
        top, left, bottom, right = window
        return self._image[top:bottom, left:right]


def see(reader: ImageReader, geometry: Geometry) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """What a geometry of the whole photo shows: as many of its pixels as that takes, and their geometry.

    Resizing them gives what resizing the whole photo would. A photo that would shrink more than eightfold is
    read at about four times the size that the model sees, where its reader can do so.
    """
    ratios = [(geometry.box[axis + 2] - geometry.box[axis]) / geometry.content[axis] for axis in (0, 1)]
    edges = []
    for axis, ratio in enumerate(ratios):
        margin = _REACH * max(1.0, ratio) + 1
        first = max(0, math.floor(geometry.box[axis] - margin))
        edges.append((first, min(geometry.source[axis], math.ceil(geometry.box[axis + 2] + margin))))
    (top, bottom), (left, right) = edges
    reduced = max(1, int(min(ratios) / _KEPT))
    pixels = reader.read((top, left, bottom, right), reduced)
    return pixels, within(geometry, (top, left, bottom, right), (pixels.shape[0], pixels.shape[1]))


def within(geometry: Geometry, window: Window, size: tuple[int, int] | None = None) -> Geometry:
    """A geometry of a photo as one of a window of it, which holds its box; read at a size (height, width)."""
    top, left, bottom, right = window
    size = (bottom - top, right - left) if size is None else size
    down, across = size[0] / (bottom - top), size[1] / (right - left)
    box = (
        max(0.0, (geometry.box[0] - top) * down),
        max(0.0, (geometry.box[1] - left) * across),
        min(float(size[0]), (geometry.box[2] - top) * down),
        min(float(size[1]), (geometry.box[3] - left) * across),
    )
    return replace(geometry, source=size, box=box)
