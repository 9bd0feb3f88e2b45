"""Images as arrays, whatever a camera or a tool wrote."""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from indexer.images.depth import Depth, read_deep
from indexer.images.formats import PROGRAM_FORMATS, is_heif, register_heif
from retrieval.errors import DataError, ImageError, MissingExtraError
from retrieval.store.paths import leads_nowhere, special_kind

#: What :func:`read_image` takes.
ImageSource = str | Path | Image.Image | npt.NDArray[Any]

#: Bytes of memory that one pixel takes on its way from a file to a mask, about.
BYTES_PER_PIXEL = 24

#: What a message that may come for every file of a folder carries; who shows it may shorten the list.
PER_FILE = {"per_file": True}

_LOG = logging.getLogger("mycelia")
_OPENING = threading.Lock()  # filters of warnings are the whole process's

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})  #: orientations that swap height and width
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
    uint8 or uint16. The EXIF orientation is applied, alpha is composited over white (ignored where it
    hides the whole image), and of several pages or frames the first is taken. 16 bit values are scaled
    to 8 by the bits in use (:class:`indexer.images.depth.Depth`). What of this is not to be expected
    is logged by name. Raises ImageError for a file that is missing, damaged, truncated, no image, or
    suspiciously large.
    """
    if isinstance(source, np.ndarray):
        return _rgb_of_array(source)
    if isinstance(source, Image.Image):
        return _rgb_of_pillow(upright(_load(source, where="the image", error=ImageError)), "the image")
    path = _path_of(source)
    where = f"image {path}"
    image = decode_file(path, kind="image", error=ImageError)
    deep = read_deep(path, image)
    if deep is None:
        return _rgb_of_pillow(upright(image), where)
    turn = _turn_of(image)
    image = Image.fromarray(_eight_bits(deep, where))
    return _rgb_of_pillow(image if turn is None else image.transpose(turn), where)


def read_shape(path: Path) -> tuple[int, int]:
    """(height, width) of an image file's upright pixels, without decoding them.

    Raises ImageError where it is missing, damaged, no image, or suspiciously large.
    """
    with open_image(path, where=f"image {path}", error=ImageError) as image:
        return upright_size(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) that an opened image has once it is upright; its pixels are not decoded."""
    width, height = image.size
    # Pillow decodes a whole PNG to look for EXIF behind its pixels, where hardly anybody writes it.
    if image.format == "PNG" and "exif" not in image.info:
        return height, width
    try:
        sideways = image.getexif().get(_ORIENTATION_TAG, 1) in _SIDEWAYS
        if image.format == "TIFF":  # whose size newer Pillows give upright
            tags = image.tag_v2  # type: ignore[attr-defined]
            sideways = sideways and image.size == (tags[256], tags[257])
    except Exception:  # broken EXIF beside good pixels is common
        sideways = False
    return (width, height) if sideways else (height, width)


def decode_file(path: Path, *, kind: str, error: type[DataError]) -> Image.Image:
    """The first frame of an image file, wholly decoded, in its own mode, its orientation not applied.

    Raises ``error``, whose message calls the file a ``kind``, where that is impossible.
    """
    where = f"{kind} {path}"
    with open_image(path, where=where, error=error) as image:
        loaded = _load(image, where=where, error=error)
        _say_pages(image, where)
        return loaded


def open_image(path: Path, *, where: str, error: type[DataError]) -> Image.Image:
    """An image file, opened and not yet decoded; raises ``error``, naming ``where``, for a bad one."""
    if path.is_dir():
        raise error(f"{where} is a folder, where an image file was expected")
    if (special := special_kind(path)) is not None:
        raise error(f"{where} is {special}, where an image file was expected; save the image as a file first")
    if leads_nowhere(path):
        raise error(f"{where} is a link that leads nowhere or in a circle; check the path")
    if is_heif(path):
        try:
            register_heif(where)
        except MissingExtraError as problem:  # a fault of this file alone, for those who go past bad ones
            raise error(str(problem)) from None
    try:
        # Pillow only warns between its limit and twice its limit; whoever decodes compares with the limit
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except FileNotFoundError:
        raise error(f"{where} does not exist; check the path") from None
    except Image.DecompressionBombError as problem:
        counted = re.search(r"\((\d+) pixels\)", str(problem))
        raise _too_large(where, error, int(counted[1]) if counted else None) from None
    except UnidentifiedImageError:
        raise error(f"{where} is not an image that can be read; save it as JPEG or PNG") from None
    except Exception as problem:  # a decoder may raise anything on a damaged header
        raise error(f"{where} cannot be opened ({_reason(problem)}); check or replace the file") from problem
    if image.format in PROGRAM_FORMATS:
        image.close()
        raise error(f"{where} is {image.format}, which other programs have to draw; save it as JPEG or PNG")
    return image


def _path_of(source: Any) -> Path:
    """What stands for a file; raises ImageError for what cannot."""
    if not isinstance(source, str | os.PathLike):
        raise ImageError(
            f"an image is a path, a PIL image or a NumPy array, not {type(source).__name__}: {source!r:.80}"
        )
    try:
        if b"\0" in os.fsencode(source):
            raise ValueError
        return Path(source)
    except (ValueError, TypeError):
        raise ImageError(f"{source!r:.80} is no name that a file can have; check the path") from None


def _say_pages(image: Image.Image, where: str) -> None:
    """Say that pages or frames after the first are not read; a phone's photo has none, but a small copy."""
    if image.format == "MPO":
        return
    try:
        if image.format in ("GIF", "TIFF"):  # which count by going through the file
            with Image.open(str(image.filename)) as again:  # type: ignore[attr-defined]
                count = again.n_frames
        else:
            count = getattr(image, "n_frames", 1)
    except Exception:  # damaged: decoding says so
        return
    if count > 1:
        what = "pages" if image.format == "TIFF" else "frames"
        _LOG.warning("%s has %d %s, of which the first is read", where, count, what, extra=PER_FILE)


def _load(image: Image.Image, *, where: str, error: type[DataError]) -> Image.Image:
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(where, error, image.width * image.height)
    if image.width == 0 or image.height == 0:
        raise error(f"{where} has no pixels (height {image.height}, width {image.width})")
    try:
        image.load()
    except Exception as problem:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise error(
            f"{where} is truncated or damaged ({_reason(problem)}); fetch or export the file again"
        ) from problem
    return image


def _too_large(where: str, error: type[DataError], pixels: int | None) -> DataError:
    what = f"{where} has more than {Image.MAX_IMAGE_PIXELS} pixels, the limit against decompression bombs"
    if pixels is None:
        return error(f"{what}; make it smaller, or allow more with --max-pixels N if you trust it")
    return error(
        f"{what}: {pixels:,}; make it smaller, or if you trust it, allow it with --max-pixels {pixels}, "
        f"which takes about {pixels * BYTES_PER_PIXEL / 1e9:.1f} GB of memory (in Python: "
        "PIL.Image.MAX_IMAGE_PIXELS)"
    )


def _reason(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its own EXIF orientation says, or the same one where it says nothing."""
    turn = _turn_of(image)
    return image if turn is None else image.transpose(turn)


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """The turn that makes a loaded image upright; None for none."""
    try:
        # Read after loading: Pillow turns a TIFF itself while loading, and then drops the tag.
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF beside good pixels is common, and no reason to refuse the image
        return None


def _rgb_of_pillow(image: Image.Image, where: str) -> npt.NDArray[np.uint8]:
    if image.mode == "F":
        raise ImageError(
            f"{where} has floating point pixels, whose range is unknown; save it with 8 or 16 bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        # the reader of PGM has scaled the values already, by the largest that the file may hold
        known = Depth(16) if image.format == "PPM" else None
        return _rgb_of_grey(_eight_bits(np.array(image), where, known))
    try:
        if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            image = _without_alpha(image.convert("RGBA"), where)
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except ValueError as problem:
        raise ImageError(
            f"{where} has the colour mode {image.mode}, which cannot become RGB; save it as RGB"
        ) from problem


def _without_alpha(layer: Image.Image, where: str) -> Image.Image:
    """RGBA over white, or where its alpha hides everything, its colours as they are."""
    if layer.getchannel("A").getextrema() == (0, 0):
        _LOG.warning("%s is wholly transparent; its alpha is ignored", where, extra=PER_FILE)
        return layer
    return Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)


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


def _eight_bits(array: npt.NDArray[Any], where: str, known: Depth | None = None) -> npt.NDArray[np.uint8]:
    """Values of up to 16 bits, (H, W) or (H, W, C), as 8, by ``known`` or by the bits that they use.

    Alpha, the fourth channel, has bits of its own.
    """
    alpha = array.shape[2:] == (4,)
    colors = array[:, :, :3] if alpha else array
    smallest, largest = int(colors.min()), int(colors.max())
    if smallest < 0 or largest > 65535:
        raise ImageError(f"{where} has 32 bit pixels outside 0..65535; save it with 8 or 16 bits")
    depth = known or Depth.of(largest)
    if depth.bits < 16:
        _LOG.warning(
            "%s uses %d of its 16 bits (its largest value is %d): its values are scaled by %d; "
            "each image is scaled by its own bits, so export all of a set alike",
            *(where, depth.bits, largest, 2**depth.bits - 1),
            extra=PER_FILE,
        )
    if not alpha:
        return depth.to_bytes(colors)
    opaque = Depth.of(int(array[:, :, 3].max())).to_bytes(array[:, :, 3:])
    return np.concatenate([depth.to_bytes(colors), opaque], axis=2)


def _rgb_of_grey(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)
