"""What the header of an image file tells without decoding its pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

#: EXIF orientations that swap height and width.
_SIDEWAYS = frozenset({5, 6, 7, 8})
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class ImageHeader:
    """Size, colour mode and pages of an image file."""

    size: tuple[int, int]  #: (height, width) of the upright image, pixels
    mode: str  #: Pillow's
    pages: int  #: of a TIFF; 1 for others


def read_header(path: Path) -> ImageHeader | None:
    """The header of an image file, or None where it cannot be read; reading the image then says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if _is_sideways(image):
                    width, height = height, width
                pages = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
                return ImageHeader((height, width), image.mode, pages)
    except Exception:  # a decoder may raise anything on a damaged header
        return None


def _is_sideways(image: Image.Image) -> bool:
    # Pillow decodes a whole PNG to look for EXIF behind its pixels, where hardly anybody writes it.
    if image.format == "PNG" and "exif" not in image.info:
        return False
    return image.getexif().get(_ORIENTATION_TAG, 1) in _SIDEWAYS
