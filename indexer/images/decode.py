"""Images as arrays, whatever a camera or a tool wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from indexer.images.formats import is_heif, register_heif
from retrieval.errors import DataError, ImageError

#: What :func:`read_image` takes.
ImageSource = str | Path | Image.Image | npt.NDArray[Any]

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
    return _rgb_of_pillow(upright(image), where)


def decode_file(path: Path, *, kind: str, error: type[DataError]) -> Image.Image:
    """The first frame of an image file, wholly decoded, in its own mode, its orientation not applied.

    Raises ``error``, whose message calls the file a ``kind``, where that is impossible.
    """
    where = f"{kind} {path}"
    if path.is_dir():
        raise error(f"{where} is a folder, where an image file was expected")
    if is_heif(path):
        register_heif(where)
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


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its own EXIF orientation says, or the same one where it says nothing."""
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
