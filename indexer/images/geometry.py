"""What the model sees of an image, and the exact way back from its patches to the image's pixels.

Positions are (row, col); boxes are (top, left, bottom, right) in source pixels, where pixel r covers
r..r+1 and its centre lies at r + 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from retrieval.errors import ConfigError, ImageError

Box = tuple[float, float, float, float]
Fit = Literal["stretch", "pad"]

#: Interpolation by the names that timm's ``pretrained_cfg`` uses.
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


@dataclass(frozen=True)
class Geometry:
    """How source pixels map to the pixels that the model sees, and back.

    ``box`` of the source is resized to ``content``, which lies at the top left of the model's input;
    the rest of the input is padding.
    """

    source: tuple[int, int]  #: (H0, W0) of the image, pixels
    size: tuple[int, int]  #: (H, W) of the model's input, pixels
    box: Box  #: (top, left, bottom, right) seen, source pixels, may be fractional
    content: tuple[int, int]  #: (height, width) of the input that the box fills, pixels

    def apply(
        self,
        image: npt.NDArray[np.uint8],
        *,
        interpolation: str = "bicubic",
        fill: Sequence[int] = (0, 0, 0),
    ) -> npt.NDArray[np.uint8]:
        """The model's input: (H0, W0, 3) uint8 -> (H, W, 3) uint8, resized with antialiasing.

        ``interpolation`` is one of :data:`INTERPOLATIONS`; ``fill`` is the padding's (red, green, blue).
        Raises ImageError for an image of another size, ConfigError for an unknown interpolation.
        """
        if image.shape != (*self.source, 3) or image.dtype != np.uint8:
            raise ImageError(
                f"this geometry expects an image of shape {(*self.source, 3)} and dtype uint8, "
                f"not {image.shape} and {image.dtype}"
            )
        if interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"unknown interpolation {interpolation!r}; choose one of {', '.join(INTERPOLATIONS)}"
            )
        top, left, bottom, right = self.box
        resized = Image.fromarray(np.ascontiguousarray(image)).resize(
            (self.content[1], self.content[0]), INTERPOLATIONS[interpolation], box=(left, top, right, bottom)
        )
        if self.content == self.size:
            return np.array(resized)
        canvas = np.empty((*self.size, 3), dtype=np.uint8)
        canvas[:] = np.asarray(fill, dtype=np.uint8)
        canvas[: self.content[0], : self.content[1]] = np.asarray(resized)
        return canvas

    def patch_of_pixels(
        self, patch_size: tuple[int, int], *, moves: tuple[int, int] = (0, 0)
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The patch that covers the centre of each source pixel: grid rows (H0,) and columns (W0,), int32.

        -1 stands for pixels outside the box, or past the last whole patch. ``patch_size`` is
        (height, width) in pixels of the model's input. With ``moves`` (down, right) the first patch begins so
        many pixels of the input later, and what lies before it has -1 too.
        """
        return self._patches(0, patch_size[0], moves[0]), self._patches(1, patch_size[1], moves[1])

    def _patches(self, axis: int, patch: int, move: int) -> npt.NDArray[np.int32]:
        offset, extent = self._offsets(axis)
        # One division, so that floor() is exact where a pixel's centre falls on a patch's border.
        patches = np.floor((offset * self.content[axis] - move * extent) / (extent * patch)).astype(np.int32)
        outside = (offset < 0) | (patches < 0) | (offset >= extent) | (patches >= self.size[axis] // patch)
        patches[outside] = -1
        return patches

    def _offsets(self, axis: int) -> tuple[npt.NDArray[np.float64], float]:
        """Distance of every source pixel's centre from the box's edge, and the box's extent (pixels)."""
        start, stop = self.box[axis], self.box[axis + 2]
        return np.arange(self.source[axis], dtype=np.float64) + 0.5 - start, stop - start

    def grid_coordinates(
        self, patch_size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Where each source pixel's centre lies in the patch grid: rows (H0,) and columns (W0,), float32.

        A patch's centre has integer coordinates, so bilinear interpolation at these coordinates brings
        a grid back to the photo. Pixels outside the box get the coordinates of the extended grid.
        """
        rows, cols = (
            (offset * self.content[axis] / (extent * patch_size[axis]) - 0.5).astype(np.float32)
            for axis, (offset, extent) in enumerate((self._offsets(0), self._offsets(1)))
        )
        return rows, cols

    def input_places(self, axis: int) -> npt.NDArray[np.float64]:
        """Where the centre of each source pixel lies along an axis of the model's input, in its pixels."""
        offset, extent = self._offsets(axis)
        return offset * self.content[axis] / extent

    def content_grid(self, patch_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the patch grid that see some of the image; beyond them is padding alone."""
        return -(-self.content[0] // patch_size[0]), -(-self.content[1] // patch_size[1])

    def patch_box(self, row: int, col: int, patch_size: tuple[int, int]) -> Box:
        """What the patch at grid (row, col) sees: (top, left, bottom, right), float source pixels.

        Clipped to the seen box, and so to the image; a patch of padding alone gets an empty box.
        """
        height, width = patch_size
        top, bottom = self.source_span(0, row * height, (row + 1) * height)
        left, right = self.source_span(1, col * width, (col + 1) * width)
        return top, left, bottom, right

    def source_span(self, axis: int, first: int, last: int) -> tuple[float, float]:
        """The source pixels (floats, clipped to the seen box) between two edges of the model's input."""
        start, stop = self.box[axis], self.box[axis + 2]

        def source_of(edge: int) -> float:
            return min(max(start + edge * (stop - start) / self.content[axis], start), stop)

        return source_of(first), source_of(last)


def make_geometry(
    source: tuple[int, int], size: tuple[int, int], *, fit: Fit = "stretch", box: Box | None = None
) -> Geometry:
    """The geometry that shows a source image (H0, W0) to a model with input (H, W).

    ``stretch`` fills the input whatever the aspect ratio; ``pad`` keeps the ratio, content at the top
    left. ``box`` is the part of the source to show, the whole image by default.
    Raises ConfigError for an unknown fit, an empty size, or a box that is empty or leaves the image.
    """
    if min(*source, *size) < 1:
        raise ConfigError(f"image sizes must be positive, not {source} (source) and {size} (model input)")
    if fit not in ("stretch", "pad"):
        raise ConfigError(f"unknown image.fit {fit!r}; choose stretch or pad")
    seen = (0.0, 0.0, float(source[0]), float(source[1])) if box is None else _checked_box(box, source)
    if fit == "stretch":
        return Geometry(source, size, seen, size)
    height, width = seen[2] - seen[0], seen[3] - seen[1]
    scale = min(size[0] / height, size[1] / width)
    content = (
        min(max(math.floor(height * scale + 0.5), 1), size[0]),
        min(max(math.floor(width * scale + 0.5), 1), size[1]),
    )
    return Geometry(source, size, seen, content)


def _checked_box(box: Box, source: tuple[int, int]) -> Box:
    top, left, bottom, right = (float(edge) for edge in box)
    if not (0 <= top < bottom <= source[0] and 0 <= left < right <= source[1]):
        raise ConfigError(
            f"the box (top, left, bottom, right) = {(top, left, bottom, right)} must be a rectangle "
            f"within the image of height {source[0]} and width {source[1]}"
        )
    return top, left, bottom, right
