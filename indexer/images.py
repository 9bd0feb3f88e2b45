"""Images: decoding whatever a camera or a tool wrote, resizing for the model, and the exact way back.

Positions are (row, col); boxes are (top, left, bottom, right) in source pixels, where pixel r covers
r..r+1 and its centre lies at r + 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from retrieval.errors import ConfigError, DataError, ImageError

#: What :func:`read_image` takes.
ImageSource = str | Path | Image.Image | npt.NDArray[Any]
Box = tuple[float, float, float, float]
Fit = Literal["stretch", "pad"]

#: File name endings (lower case) that count as images when a folder is listed.
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)

#: Interpolation by the names that timm's ``pretrained_cfg`` uses.
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: ImageSource) -> npt.NDArray[np.uint8]:
    """Any image as upright RGB: -> (H, W, 3) uint8, 0..255, a fresh writable array.

    ``source`` is a path, a PIL image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool,
    uint8 or uint16. The EXIF orientation is applied, alpha is composited over white, 16 bit values are
    scaled to 8, and of an animation the first frame is taken.
    Raises ImageError for a file that is missing, damaged, truncated, no image, or suspiciously large.
    """
    if isinstance(source, np.ndarray):
        return _rgb_of_array(source)
    if isinstance(source, Image.Image):
        where, image = "the image", _load(source, where="the image", error=ImageError)
    else:
        where = f"image {source}"
        image = decode_file(Path(source), kind="image", error=ImageError)
    return _rgb_of_pillow(_upright(image), where)


def decode_file(path: Path, *, kind: str, error: type[DataError]) -> Image.Image:
    """The first frame of an image file, wholly decoded, in its own mode, its orientation not applied.

    Raises ``error``, whose message calls the file a ``kind``, where that is impossible.
    """
    where = f"{kind} {path}"
    if path.is_dir():
        raise error(f"{where} is a folder, where an image file was expected")
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise error(f"{where} does not exist; check the path") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(where, error) from None
    except UnidentifiedImageError:
        raise error(f"{where} is not an image that can be read; save it as JPEG or PNG") from None
    except Exception as problem:  # a decoder may raise anything on a damaged header
        raise error(f"{where} cannot be opened ({_reason(problem)}); check or replace the file") from problem
    with image:
        return _load(image, where=where, error=error)


def _load(image: Image.Image, *, where: str, error: type[DataError]) -> Image.Image:
    # Pillow only warns between its limit and twice its limit, and only when it opens a file.
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(where, error)
    if image.width == 0 or image.height == 0:
        raise error(f"{where} has no pixels (height {image.height}, width {image.width})")
    try:
        image.load()
    except Exception as problem:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise error(
            f"{where} is truncated or damaged ({_reason(problem)}); fetch or export the file again"
        ) from problem
    return image


def _too_large(where: str, error: type[DataError]) -> DataError:
    return error(
        f"{where} has more than {Image.MAX_IMAGE_PIXELS} pixels, the limit against decompression bombs; "
        "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    )


def _reason(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def _upright(image: Image.Image) -> Image.Image:
    try:
        # Read after loading: Pillow turns a TIFF itself while loading, and then drops the tag.
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF beside good pixels is common, and no reason to refuse the image
        turn = None
    return image if turn is None else image.transpose(turn)


def _rgb_of_pillow(image: Image.Image, where: str) -> npt.NDArray[np.uint8]:
    if image.mode == "F":
        raise ImageError(
            f"{where} has floating point pixels, whose range is unknown; save it with 8 or 16 bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _rgb_of_grey(_eight_bits(np.array(image), where))
    try:
        if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
        return np.array(image.convert("RGB"))
    except ValueError as problem:
        raise ImageError(
            f"{where} has the colour mode {image.mode}, which cannot become RGB; save it as RGB"
        ) from problem


def _rgb_of_array(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or 0 in array.shape:
        raise ImageError(
            "an image array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with H and W at least 1, "
            f"not {array.shape}"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.newbyteorder("=") == np.uint16:
        array = _eight_bits(array, "the image array")
    elif array.dtype != np.uint8:
        raise ImageError(
            f"an image array must hold bool, uint8 (0..255) or uint16 (0..65535), not {array.dtype}"
        )
    if array.ndim == 2:
        return _rgb_of_grey(array)
    if array.shape[2] == 4:
        return _rgb_of_pillow(Image.fromarray(np.ascontiguousarray(array)), "the image array")
    return np.array(array, dtype=np.uint8, order="C")


def _eight_bits(array: npt.NDArray[Any], where: str) -> npt.NDArray[np.uint8]:
    values = array.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{where} has 32 bit pixels outside 0..65535; save it with 8 or 16 bits")
    return ((values + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257


def _rgb_of_grey(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def list_images(folder: Path) -> list[Path]:
    """The image files below a folder, at any depth, sorted by path; hidden files are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


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
        self, patch_size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The patch that covers the centre of each source pixel: grid rows (H0,) and columns (W0,), int32.

        -1 stands for pixels outside the box, or past the last whole patch. ``patch_size`` is
        (height, width) in pixels of the model's input.
        """
        return self._patches(0, patch_size[0]), self._patches(1, patch_size[1])

    def _patches(self, axis: int, patch: int) -> npt.NDArray[np.int32]:
        offset, extent = self._offsets(axis)
        # One division, so that floor() is exact where a pixel's centre falls on a patch's border.
        patches = np.floor(offset * self.content[axis] / (extent * patch)).astype(np.int32)
        outside = (offset < 0) | (offset >= extent) | (patches >= self.size[axis] // patch)
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

    def content_grid(self, patch_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the patch grid that see some of the image; beyond them is padding alone."""
        return -(-self.content[0] // patch_size[0]), -(-self.content[1] // patch_size[1])

    def patch_box(self, row: int, col: int, patch_size: tuple[int, int]) -> Box:
        """What the patch at grid (row, col) sees: (top, left, bottom, right), float source pixels.

        Clipped to the seen box, and so to the image; a patch of padding alone gets an empty box.
        """
        top, bottom = self._span(0, row, patch_size[0])
        left, right = self._span(1, col, patch_size[1])
        return top, left, bottom, right

    def _span(self, axis: int, position: int, patch: int) -> tuple[float, float]:
        start, stop = self.box[axis], self.box[axis + 2]

        def source_of(edge: int) -> float:
            return min(max(start + edge * (stop - start) / self.content[axis], start), stop)

        return source_of(position * patch), source_of((position + 1) * patch)


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
